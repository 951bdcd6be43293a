//! The reference of all settings, as Markdown.

use super::traps::WRONG_FIRST;
use super::{Places, Setting, TABLE, Unset};

const HEAD: &str = "\
# Settings

Written by `order-router config reference`. Change the table in the code, not this file.

Each setting has one name in three spellings: a line of a TOML file that is named with `--config` or
ORDER_ROUTER_CONFIG, an environment variable, and a flag. A flag goes before the environment, the
environment before the file, the file before the default. An empty variable is none. A key that is
no setting is refused. Secrets stand in the environment or in a file of mode 600, never in the file
of settings. `order-router config check` says everything that is wrong at once, and `order-router
config show` what holds and why.

## What is configured wrong first
";

/// The reference, generated from the [`TABLE`].
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (number, (title, text)) in (1..).zip(WRONG_FIRST) {
        page += &format!("\n{number}. **{title}.** {text}");
    }
    page.push('\n');
    let mut group = "";
    for setting in TABLE {
        if setting.group != group {
            group = setting.group;
            page += &format!(
                "\n## {group}\n\n| key | variable | flag | unit | default | what it is, and what \
                 it costs to get it wrong |\n|---|---|---|---|---|---|\n"
            );
        }
        page += &row(setting);
    }
    page
}

fn row(setting: &Setting) -> String {
    let code = |text: &str| format!("`{text}`");
    let (key, variable, flag) =
        (code(setting.name), code(&setting.variable()), code(&format!("--{}", setting.flag())));
    let none = || "no".to_owned();
    let (key, variable, flag) = match setting.places {
        Places::All => (key, variable, flag),
        Places::Flag => (none(), none(), flag),
        Places::Environment => (none(), variable, none()),
    };
    let default = match setting.default {
        Unset::Is("") => "none".to_owned(),
        Unset::Is(text) => code(text),
        Unset::Says(text) => text.to_owned(),
    };
    let cells = [key, variable, flag, setting.unit(), default, setting.help.to_owned()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
