//! Man pages, completions and docs/configuration.md: the commands from clap's definition, the
//! configuration's keys from the sample that the packages install. Neither is listed a second time here.

use std::fmt::Write as _;
use std::io;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use vipswitch::cli::Cli;
use vipswitch::failover;

/// The configuration that the packages install.
pub const SAMPLE: &str = include_str!("../vipswitch.toml");

/// Where the packages find what this makes.
pub const FOLDER: &str = "packaging/documents/generated";

/// Where the page about the configuration is for those who read the sources.
pub const CONFIGURATION: &str = "docs/configuration.md";

/// What the sample does not say, before its keys and after.
const BEFORE_KEYS: &str = include_str!("before.md");
const AFTER_KEYS: &str = include_str!("after.md");

/// What clap does not know, before its commands and after.
const BEFORE: &str = include_str!("before.roff");
const AFTER: &str = include_str!("after.roff");

/// Returns each file's name and text. `packaging/build.sh` puts the date and the version into the
/// pages.
pub fn all() -> io::Result<Vec<(String, String)>> {
    let mut files = vec![
        ("vipswitch.8".to_owned(), commands_page()?),
        ("vipswitch.toml.5".to_owned(), configuration_page()),
    ];
    for (shell, name) in [
        (Shell::Bash, "vipswitch.bash"),
        (Shell::Zsh, "_vipswitch"),
        (Shell::Fish, "vipswitch.fish"),
    ] {
        files.push((name.to_owned(), completions(shell)?));
    }
    Ok(files)
}

/// Returns a shell's completions, the same as `vipswitch completions` prints.
fn completions(shell: Shell) -> io::Result<String> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vipswitch", &mut bytes);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Returns vipswitch(8).
fn commands_page() -> io::Result<String> {
    let mut cli = Cli::command();
    cli.build();
    let mut page = title("VIPSWITCH", 8, "System Administration");
    let about = cli.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, ".SH NAME\nvipswitch \\- {}", lower_first(&about));
    page += ".SH SYNOPSIS\n.nf\n";
    let _ = writeln!(page, "{}", escape(&failover::USAGE.replace('`', "")));
    for verb in shown(&cli) {
        let usage = verb.clone().render_usage().to_string();
        let _ = writeln!(page, "{}", escape(usage.trim_start_matches("Usage: ")));
    }
    page += ".fi\n";
    page += BEFORE;
    page += ".SH COMMANDS\n";
    for verb in shown(&cli) {
        page += &command_section(verb)?;
    }
    page += ".SH OPTIONS\nThese go before a command or after it.\n";
    page += &options(&cli, |_| true)?;
    page += AFTER;
    Ok(page)
}

/// Returns the commands that the help shows, without clap's own `help`.
fn shown(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn command_section(verb: &Command) -> io::Result<String> {
    let mut section = format!(".SS \"{}\"\n", escape(verb.get_name()));
    let about = verb.get_long_about().or(verb.get_about());
    let _ = writeln!(
        section,
        "{}.",
        text(&about.map(ToString::to_string).unwrap_or_default())
    );
    section += &options(verb, |argument| {
        !argument.is_global_set() && argument.get_id() != "help"
    })?;
    if let Some(help) = verb.get_after_long_help().or(verb.get_after_help()) {
        section += &with_examples(&help.to_string());
    }
    Ok(section)
}

/// Returns the arguments of a command that `wanted` picks, as clap_mangen writes them.
fn options(verb: &Command, wanted: impl Fn(&clap::Arg) -> bool) -> io::Result<String> {
    let picked = verb
        .get_arguments()
        .filter(|argument| wanted(argument))
        .cloned();
    let alone = Command::new("vipswitch")
        .version("@VERSION@")
        .disable_version_flag(true)
        .disable_help_flag(true)
        .allow_missing_positional(verb.is_allow_missing_positional_set())
        .args(picked.map(|argument| argument.global(false)));
    let mut bytes = Vec::new();
    Man::new(alone).render_options_section(&mut bytes)?;
    let roff = String::from_utf8(bytes).map_err(io::Error::other)?;
    // An empty line between two breaks is what mandoc calls a mistake.
    let roff = roff.replace(".br\n\n.br\n", ".sp\n");
    // It stands below a heading of ours.
    let lines = roff.lines().filter(|line| {
        !line.starts_with(".SH") && !line.starts_with(".ie") && !line.starts_with(".el")
    });
    Ok(lines.fold(String::new(), |all, line| all + line + "\n"))
}

/// Writes help text: indented lines as they are, the others as paragraphs, which an empty line or an example ends.
fn with_examples(help: &str) -> String {
    let mut roff = String::new();
    let (mut inside, mut begins) = (false, true);
    for line in help.lines() {
        let is_example = line.starts_with("  ");
        if is_example != inside {
            roff += if is_example {
                ".PP\n.RS 4\n.EX\n"
            } else {
                ".EE\n.RE\n"
            };
        }
        match (is_example, line.is_empty()) {
            (true, _) => roff += &format!("{}\n", text(line.trim_start())),
            (false, true) => {}
            (false, false) if begins => roff += &format!(".PP\n{}\n", text(line)),
            (false, false) => roff += &format!("{}\n", text(line)),
        }
        (inside, begins) = (is_example, is_example || line.is_empty());
    }
    if inside {
        roff += ".EE\n.RE\n";
    }
    roff
}

/// A block of the sample: text behind `# `, and a setting, or the name of a table, behind `#`.
struct Block<'a> {
    /// An empty line of it starts a paragraph.
    prose: Vec<&'a str>,
    setting: Vec<&'a str>,
}

/// Returns the blocks of the sample, which stand between empty lines.
fn blocks() -> impl Iterator<Item = Block<'static>> {
    let is_prose = |line: &&str| *line == "#" || line.starts_with("# ");
    SAMPLE.trim().split("\n\n").map(move |block| {
        let (prose, setting): (Vec<&str>, Vec<&str>) = block.lines().partition(is_prose);
        Block {
            prose: prose
                .into_iter()
                .map(|line| line.trim_start_matches('#').trim())
                .collect(),
            setting: setting
                .into_iter()
                .map(|line| line.trim_start_matches('#'))
                .collect(),
        }
    })
}

/// Returns docs/configuration.md.
pub fn configuration_markdown() -> String {
    let mut page = BEFORE_KEYS.to_owned();
    // The first one is about the sample itself.
    for Block { prose, setting } in blocks().skip(1) {
        match setting.first() {
            Some(table) if table.starts_with('[') => page += &format!("### `{table}`\n\n"),
            Some(line) => {
                let key = line.split(' ').next().unwrap_or_default();
                page += &format!("#### `{key}`\n\n");
            }
            None => {}
        }
        page += &format!("{}\n\n", prose.join("\n"));
        // A table's name alone is its heading.
        if setting.len() > 1 || setting.iter().any(|line| !line.starts_with('[')) {
            page += &format!("```toml\n{}\n```\n\n", setting.join("\n"));
        }
    }
    page + AFTER_KEYS
}

/// Returns vipswitch.toml(5).
fn configuration_page() -> String {
    let mut page = title("VIPSWITCH.TOML", 5, "File Formats");
    page += ".SH NAME\nvipswitch.toml \\- which virtual IP belongs to which master\n";
    page += ".SH SYNOPSIS\n.I /etc/vipswitch.toml\n.SH DESCRIPTION\n";
    for (number, Block { prose, setting }) in blocks().enumerate() {
        let mut setting = setting.into_iter();
        match setting.next() {
            None if number == 0 => page += &paragraphs(&prose[..]),
            None => page += &format!(".PP\n{}", paragraphs(&prose)),
            Some(table) if table.starts_with('[') => {
                page += &format!(
                    ".SH \"THE TABLE {}\"\n{}",
                    escape(table),
                    paragraphs(&prose)
                );
                // Keys that are names of the site's own stand with their table.
                if setting.len() > 0 {
                    page += ".PP\n.EX\n";
                    page += &setting.fold(text(table) + "\n", |all, line| all + &text(line) + "\n");
                    page += ".EE\n";
                }
            }
            Some(line) => {
                let key = line.split(' ').next().unwrap_or_default();
                let _ = write!(
                    page,
                    ".TP\n.B {}\n{}",
                    escape(key),
                    paragraphs(&prose).replace(".PP\n", ".IP\n")
                );
                page += ".IP\n.EX\n";
                for line in std::iter::once(line).chain(setting) {
                    let _ = writeln!(page, "{}", text(line));
                }
                page += ".EE\n";
            }
        }
    }
    page += EXAMPLE;
    page
}

/// The guide's three servers, and a master with two VIPs.
const EXAMPLE: &str = r#".SH EXAMPLES
One master, a Sentinel on another port than the usual one:
.PP
.RS 4
.EX
[masters.master8000]
vip = "192.168.56.250/24"

[sentinel]
address = "127.0.0.1:6800"
.EE
.RE
.PP
Two masters, one of them with an IPv6 VIP as well:
.PP
.RS 4
.EX
[masters.cache]
vip = ["192.168.56.250/24", "2001:db8:56::250/64"]
interface = "eth1"

[masters."queue.v2"]
vip = "192.168.56.251/24"
.EE
.RE
.SH "SEE ALSO"
.BR vipswitch (8)
"#;

fn title(name: &str, section: u8, volume: &str) -> String {
    format!(".TH {name} {section} @DATE@ \"vipswitch @VERSION@\" \"{volume}\"\n")
}

/// Joins lines of prose; an empty one starts a paragraph.
fn paragraphs(lines: &[&str]) -> String {
    let joined = lines.iter().map(|line| {
        if line.is_empty() {
            ".PP".to_owned()
        } else {
            text(line)
        }
    });
    joined.fold(String::new(), |all, line| all + &line + "\n")
}

/// One line of running text, which is no request whatever it starts with.
fn text(line: &str) -> String {
    let escaped = escape(line);
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

/// A hyphen and a quotation mark stay what they are when someone copies them.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq")
        .replace('\'', "\\(aq")
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
