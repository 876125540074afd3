//! Tables as Ollama prints them: a heading in capitals, columns left-aligned, four spaces between them.

/// The heading and the rows, each line ended; a column is as wide as its widest entry.
pub fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    let width = |column: usize| {
        let entries = std::iter::once(&heading).chain(rows).map(|row| row[column].chars().count());
        entries.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("    ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&heading).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_four_spaces_between_them() {
        let rows = [["é", "22"], ["longer", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(["A", "B"], &rows), "A         B\né         22\nlonger\n");
        assert_eq!(columns(["A"], &[]), "A\n");
    }
}
