//! Numbers as people read them, in tables and drawings.

/// With its sign, a true minus, and `digits` after the point; zero has no sign.
pub(crate) fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value.abs(), digits);
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    match value < 0.0 {
        _ if is_zero || value.is_nan() => text,
        true => format!("−{text}"),
        false => format!("+{text}"),
    }
}

/// With `digits` after the point and a true minus; `∞` for what is infinite, a dash for what is no number.
pub(crate) fn fixed(value: f64, digits: usize) -> String {
    if value.is_nan() {
        return "–".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_string();
    }
    format!("{value:.digits$}").replace('-', "−")
}

/// In groups of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_reading() {
        assert_eq!(thousands(19_132_158), "19,132,158");
        assert_eq!(thousands(100), "100");
        assert_eq!(
            [-0.284, 0.031, -0.004, f64::INFINITY, f64::NAN].map(|value| signed(value, 2)),
            ["−0.28", "+0.03", "0.00", "+∞", "–"]
        );
        assert_eq!(
            [-1.5, 2.0, f64::NEG_INFINITY].map(|value| fixed(value, 1)),
            ["−1.5", "2.0", "−∞"]
        );
    }
}
