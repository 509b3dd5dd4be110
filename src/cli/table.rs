//! What a command prints: aligned columns for people, JSON for programs.

use serde_json::{Map, Value};

/// Rows under named columns. Numbers stand right, everything else left.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub fn new(columns: &[&'static str]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn push(&mut self, row: Vec<Value>) {
        assert_eq!(row.len(), self.columns.len(), "a row has a value for each column");
        self.rows.push(row);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One object a row, its keys the columns' names with underscores.
    pub fn to_json(&self) -> Value {
        let object = |row: &Vec<Value>| -> Map<String, Value> {
            self.columns
                .iter()
                .zip(row)
                .map(|(column, value)| (column.replace(' ', "_"), value.clone()))
                .collect()
        };
        self.rows.iter().map(object).map(Value::Object).collect()
    }

    /// Headings in capitals, then the rows; two spaces between columns.
    pub fn to_text(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|column| column.to_uppercase()).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| &row[column]).chain([&heading[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let is_number = |column: usize| {
            !self.rows.is_empty()
                && self.rows.iter().all(|row| row[column].is_number() || row[column].is_null())
        };
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                let separator = if column > 0 { "  " } else { "" };
                line += &if is_number(column) {
                    format!("{separator}{gap}{cell}")
                } else {
                    format!("{separator}{cell}{gap}")
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// So many of something, for people.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// JSON as the commands print it.
pub fn json_text(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a tree of texts and numbers is always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(&["topic", "log end", "leader"]);
        table.push(vec![json!("a"), json!(5), json!(1)]);
        table.push(vec![json!("longer"), json!(12345), json!(null)]);
        assert_eq!(
            table.to_text(),
            "TOPIC   LOG END  LEADER\na             5       1\nlonger    12345       -\n"
        );
        assert_eq!(table.to_json()[1], json!({ "topic": "longer", "log_end": 12345, "leader": null }));
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "broker")), ["0 brokers", "1 broker", "2 brokers"]);
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        assert_eq!(Table::new(&["group", "state"]).to_text(), "GROUP  STATE\n");
        assert_eq!(Table::new(&["group"]).to_json(), json!([]));
    }
}
