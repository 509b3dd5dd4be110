//! What the operator gets: a table, a page, ratios to an earlier run.

pub mod compare;
pub mod html;
pub mod table;
