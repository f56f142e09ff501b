//! Medians, spreads and tables.

use std::fmt::Write;

use hdrhistogram::{CreationError, Histogram};
use serde_json::{Value, json};

/// One figure, measured several times.
#[derive(Clone, Debug, Default)]
pub struct Figure(Vec<f64>);

impl Figure {
    /// Adds a measurement.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How often it was measured.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The median; NaN without a measurement.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match (sorted.len() % 2, sorted.get(middle)) {
            (1, Some(value)) => *value,
            (0, Some(value)) => {
                f64::midpoint(sorted.get(middle - 1).copied().unwrap_or(*value), *value)
            }
            _ => f64::NAN,
        }
    }

    /// The least measurement.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest measurement.
    #[must_use]
    pub fn greatest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// The ratio of each round to the same round of another figure: noise in both cancels out.
    #[must_use]
    pub fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// Median and spread, such as `10.5 (10.2–11.0)`; empty without a measurement.
    #[must_use]
    pub fn text(&self, decimals: usize) -> String {
        match self.0.len() {
            0 => String::new(),
            1 => format!("{:.decimals$}", self.median()),
            _ => format!(
                "{:.decimals$} ({:.decimals$}–{:.decimals$})",
                self.median(),
                self.least(),
                self.greatest()
            ),
        }
    }

    /// Median, spread and every measurement.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "median": self.median(),
            "min": self.least(),
            "max": self.greatest(),
            "rounds": self.0,
        })
    }
}

/// A histogram of times from a nanosecond to a minute, accurate to one in a thousand.
///
/// # Errors
/// Never: the bounds are valid.
pub fn times() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
}

/// A table in Markdown, columns aligned; the first column to the left, the others to the right.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .chain([head[column].chars().count(), 3])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: Vec<&str>| {
        for (column, width) in widths.iter().enumerate() {
            let cell = cells.get(column).copied().unwrap_or_default();
            let _ = if column == 0 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
    };
    line(head.to_vec());
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| {
            if column == 0 {
                "-".repeat(*width)
            } else {
                format!("{}:", "-".repeat(width - 1))
            }
        })
        .collect();
    line(rules.iter().map(String::as_str).collect());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_spread() {
        let mut figure = Figure::default();
        assert_eq!(figure.text(1), "");
        for value in [3.0, 1.0, 2.0, 10.0] {
            figure.add(value);
        }
        assert_eq!(figure.text(1), "2.5 (1.0–10.0)");
        assert_eq!(figure.by(&figure).text(0), "1 (1–1)");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["a".to_owned(), "1.5".to_owned()]];
        assert_eq!(
            table(&["what", "µs"], &rows),
            "| what |  µs |\n| ---- | --: |\n| a    | 1.5 |\n"
        );
    }
}
