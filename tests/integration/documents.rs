//! What stands twice: help, man pages, completions and README name the same commands and options,
//! the sample and its page every key of the configuration.

#[path = "../../packaging/documents/generate.rs"]
mod generate;

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use vipswitch::cli::Cli;
use vipswitch::config;

/// What `generate` writes under this name.
fn document(name: &str) -> String {
    let all = generate::all().expect("the documents are written");
    let found = all.into_iter().find(|(file, _)| file == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

/// The page as it reads, without the escapes of roff.
fn page(name: &str) -> String {
    let plain = document(name).replace("\\-", "-").replace("\\(aq", "'");
    plain
        .replace("\\(dq", "\"")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).expect("README.md is read")
}

fn commands(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// Every `--option` that a text names.
fn options_in(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    text.split(|c: char| !is_part(c) && !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("--") && word.len() > 2 && word.chars().all(is_part))
        .map(str::to_owned)
        .collect()
}

/// Every option of every command, as the help has it.
fn options_of_help() -> BTreeSet<String> {
    let mut cli = Cli::command();
    cli.build();
    let mut options = options_in(&cli.clone().render_long_help().to_string());
    for verb in commands(&cli) {
        options.extend(options_in(&verb.clone().render_long_help().to_string()));
    }
    options
}

#[test]
fn the_files_that_the_packages_take_are_those_of_this_help() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(generate::FOLDER);
    for (name, text) in generate::all().expect("the documents are written") {
        let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            found == text,
            "{name} in {} is out of date. Run: cargo run --example documents",
            generate::FOLDER
        );
    }
}

#[test]
fn the_help_shows_options_at_all() {
    let options = options_of_help();
    for option in ["--config", "--dry-run", "--for", "--json", "--version"] {
        assert!(options.contains(option), "{option} is not in {options:?}");
    }
}

#[test]
fn man_page_readme_and_completions_name_every_command_and_option_of_the_help() {
    let cli = Cli::command();
    let texts = [
        ("vipswitch(8)", page("vipswitch.8")),
        ("README.md", readme()),
        ("bash", document("vipswitch.bash")),
        ("zsh", document("_vipswitch")),
        // fish names long options without their dashes.
        ("fish", document("vipswitch.fish").replace("-l ", "--")),
    ];
    for (name, text) in texts {
        let named = options_in(&text);
        for option in options_of_help() {
            assert!(named.contains(&option), "{name} lacks {option}");
        }
        for verb in commands(&cli) {
            let verb = verb.get_name();
            let is_word = text
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| word == verb);
            assert!(is_word, "{name} lacks the command {verb}");
        }
    }
}

#[test]
fn the_man_page_names_no_option_that_the_help_does_not() {
    let help = options_of_help();
    for option in options_in(&page("vipswitch.8")) {
        assert!(help.contains(&option), "vipswitch(8) has {option}");
    }
}

#[test]
fn each_command_has_its_line_in_the_readme() {
    let readme = readme();
    for verb in commands(&Cli::command()) {
        let line = format!("\nvipswitch {}", verb.get_name());
        assert!(readme.contains(&line), "README.md lacks:{line}");
    }
}

/// The sample, its settings with their comments taken away.
fn sample_uncommented() -> String {
    let lines = generate::SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
            _ => line,
        });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_names_no_master_and_is_valid_with_its_comments_taken_away() {
    let path = Path::new("sample");
    let fault = config::parse(generate::SAMPLE, path).expect_err("the sample names no master");
    assert!(fault.to_string().contains("names no master"), "{fault}");
    // They exclude each other.
    for one_of_two in ["\npassword = ", "\npassword_file = "] {
        let text = sample_uncommented().replace(one_of_two, "\n# ");
        let config = config::parse(&text, path).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        assert!(config.masters.contains_key("NAME"));
        assert!(config.sentinel.password.is_some());
        assert!(config.sentinel.tls && config.masters["NAME"].tls);
        assert!(config.tls.is_some_and(|tls| tls.client.is_some()));
    }
}

/// The keys of a table, from the message about one that it does not know.
fn keys(table: &str) -> Vec<String> {
    let text = format!("{table}\nno_such_key = 1\n");
    let fault = config::parse(&text, Path::new("x")).expect_err("no such key");
    let message = fault.to_string();
    let (_, expected) = message.split_once("expected ").expect("the known keys");
    let names = expected.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn every_key_that_the_configuration_knows_is_in_the_sample_and_in_its_page() {
    let sample = sample_uncommented();
    let page = page("vipswitch.toml.5");
    for table in ["[masters.NAME]", "[sentinel]", "[tls]"] {
        let known = keys(table);
        assert!(known.len() > 2, "{known:?}");
        let (_, settings) = sample
            .split_once(&format!("\n{table}\n"))
            .expect("the table");
        let settings = settings.split("\n[").next().unwrap_or_default();
        for key in known {
            assert!(
                settings.contains(&format!("\n{key} = ")),
                "{table} of the sample lacks {key}"
            );
            assert!(
                page.contains(&format!("\n.B {key}\n")),
                "vipswitch.toml(5) lacks {key}"
            );
        }
    }
    for key in keys("[masters.NAME.on_release]") {
        assert!(
            sample.contains(&format!("{key} = ")),
            "the sample lacks {key} of commands"
        );
    }
}

#[test]
fn the_examples_of_the_configurations_page_are_valid() {
    let page = page("vipswitch.toml.5");
    let (_, examples) = page.split_once(".SH EXAMPLES").expect("examples");
    let mut number = 0;
    for text in examples.split(".EX\n").skip(1) {
        let text = text.split(".EE").next().unwrap_or_default();
        config::parse(text, Path::new("example")).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        number += 1;
    }
    assert_eq!(number, 2);
}

#[test]
fn the_units_call_the_program_with_options_that_it_has() {
    let unit = include_str!("../../packaging/systemd/vipswitch-sync.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/vipswitch "));
    let help = options_of_help();
    for option in options_in(line.expect("ExecStart=")) {
        assert!(help.contains(&option), "the unit calls {option}");
    }
}
