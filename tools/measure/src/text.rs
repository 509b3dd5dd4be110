//! Figures as people read them: three digits and a unit.

/// 45 µs, 1.20 ms, 3.4 s.
pub fn time_text(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{} µs", three_digits(us)),
        us if us < 1e6 => format!("{} ms", three_digits(us / 1e3)),
        us => format!("{} s", three_digits(us / 1e6)),
    }
}

/// 987, 12.3k, 4.56M.
pub fn count_text(count: f64) -> String {
    match count {
        count if count < 1e3 => three_digits(count),
        count if count < 1e6 => format!("{}k", three_digits(count / 1e3)),
        count => format!("{}M", three_digits(count / 1e6)),
    }
}

pub fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 || v == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// 512 B, 4 KiB, 1 MiB.
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (us, text) in [(0.0, "0 µs"), (4.567, "4.57 µs"), (45.67, "45.7 µs"), (999.0, "999 µs")] {
            assert_eq!(time_text(us), text);
        }
        for (us, text) in [(1_234.0, "1.23 ms"), (99_960.0, "100 ms"), (2e6, "2.00 s")] {
            assert_eq!(time_text(us), text);
        }
        for (count, text) in [(0.5, "0.50"), (987.0, "987"), (12_345.0, "12.3k"), (4.56e6, "4.56M")] {
            assert_eq!(count_text(count), text);
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (bytes, text) in [(512, "512 B"), (4096, "4 KiB"), (1 << 20, "1 MiB"), (1500, "1500 B")] {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
