//! A message's schema as a value: for tests and fuzzing, which make bytes from it. The codec itself does not look at it.

/// What one value looks like on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uuid,
    String,
    /// `bytes` and `records`: the wire knows no difference.
    Bytes,
    Array(&'static Shape),
    Struct(&'static [FieldShape]),
}

/// One line of a `message!`.
#[derive(Clone, Copy, Debug)]
pub struct FieldShape {
    pub name: &'static str,
    pub shape: Shape,
    /// Is the field there in this version?
    pub present: fn(i16) -> bool,
    /// May it be null in this version?
    pub nullable: fn(i16) -> bool,
    /// Its tag, if it is a tagged field.
    pub tag: Option<u32>,
}
