//! The settings tables of the README.

use std::fmt::Write;

use super::key::settings;
use super::topic_table::{Effect, TOPIC_SETTINGS};

/// Broker settings that are no topic setting's default, as a Markdown table.
pub fn setting_table() -> String {
    let mut table = String::from("| setting | default | range | what it does |\n|---|---|---|---|\n");
    for setting in settings().iter().filter(|s| s.topic_setting.is_none()) {
        let aliases: String = setting.aliases.iter().map(|alias| format!(", `{alias}`")).collect();
        let default = setting.default.map_or("not set".to_owned(), |default| format!("`{default}`"));
        let unit = setting.unit.name();
        let range = setting.check.range();
        let range = if unit.is_empty() { range } else { format!("{range} {unit}") };
        writeln!(table, "| `{}`{aliases} | {default} | {range} | {} |", setting.name, setting.help)
            .expect("writing to a String cannot fail");
    }
    table
}

/// Topic settings and the broker settings that give their defaults, as a Markdown table.
pub fn topic_setting_table() -> String {
    let mut table = String::from(
        "| topic setting | broker setting | default | range | what it does |\n|---|---|---|---|---|\n",
    );
    for setting in TOPIC_SETTINGS.iter().filter(|s| matches!(s.effect, Effect::Full | Effect::Partial(_))) {
        let synonyms: Vec<String> = setting.synonyms.iter().map(|s| format!("`{}`", s.name)).collect();
        let effect = match setting.effect {
            Effect::Partial(yet) => format!(" For now {yet}."),
            _ => String::new(),
        };
        let default = match setting.default {
            "9223372036854775807" => "never".to_owned(),
            other => format!("`{other}`"),
        };
        writeln!(
            table,
            "| `{}` | {} | {default} | {} | {}{effect} |",
            setting.name,
            synonyms.join(", "),
            setting.check.range(),
            setting.help
        )
        .expect("writing to a String cannot fail");
    }
    table
}

/// Topic settings that are accepted and described but do nothing yet, as one line of Markdown.
pub fn without_effect_list() -> String {
    let names = TOPIC_SETTINGS.iter().filter(|s| s.effect == Effect::None).map(|s| format!("`{}`", s.name));
    names.collect::<Vec<_>>().join(", ") + "\n"
}
