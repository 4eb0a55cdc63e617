//! What stands twice: help, man pages, completions and documents name the same commands and options,
//! the sample and its pages every key of the configuration, the troubles the program's own messages.

#[path = "../../packaging/documents/generate.rs"]
mod generate;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use vipswitch::cli::Cli;
use vipswitch::config;
use vipswitch::exit::Exit;

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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the tree.
fn text_of(name: &str) -> String {
    let text = std::fs::read_to_string(root().join(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme() -> String {
    text_of("README.md")
}

/// The files below a folder of the tree whose names end so.
fn files_below(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root()).expect("in the tree");
        if path.is_dir() {
            found.extend(files_below(name.to_str().expect("UTF-8"), end));
        } else if name.to_string_lossy().ends_with(end) {
            found.push(name.to_owned());
        }
    }
    found.sort();
    found
}

/// What users read beside the man pages: README and all of docs.
fn for_users() -> String {
    let docs = files_below("docs", ".md");
    assert!(docs.len() > 5, "{docs:?}");
    let texts = docs.iter().map(|name| text_of(name.to_str().unwrap()));
    readme() + &texts.collect::<String>()
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
    assert!(
        text_of(generate::CONFIGURATION) == generate::configuration_markdown(),
        "{} is out of date. Run: cargo run --example documents",
        generate::CONFIGURATION
    );
}

#[test]
fn the_help_shows_options_at_all() {
    let options = options_of_help();
    for option in ["--config", "--dry-run", "--for", "--json", "--version"] {
        assert!(options.contains(option), "{option} is not in {options:?}");
    }
}

#[test]
fn man_page_documents_and_completions_name_every_command_and_option_of_the_help() {
    let cli = Cli::command();
    let texts = [
        ("vipswitch(8)", page("vipswitch.8")),
        ("README.md and docs", for_users()),
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

/// What a Markdown text shows as code: `x`, and the lines of blocks.
fn code_in(text: &str) -> Vec<&str> {
    let mut code = Vec::new();
    let mut is_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            code.push(line.trim());
        } else {
            code.extend(line.split('`').skip(1).step_by(2));
        }
    }
    code
}

#[test]
fn the_documents_call_the_program_with_options_that_it_has() {
    let help = options_of_help();
    let text = for_users();
    let calls = code_in(&text)
        .into_iter()
        .filter(|code| code.starts_with("vipswitch "));
    let calls: Vec<&str> = calls.collect();
    assert!(calls.len() > 20, "{calls:?}");
    for call in calls {
        for option in options_in(call) {
            assert!(help.contains(&option), "{call}: the help has no {option}");
        }
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
    let markdown = text_of(generate::CONFIGURATION);
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
            assert!(
                markdown.contains(&format!("\n#### `{key}`\n")),
                "{} lacks {key}",
                generate::CONFIGURATION
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

/// The documented defaults that can be set in a file: the key with its table, and the default in TOML.
fn documented_defaults(markdown: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for table in markdown.split("\n### `").skip(1) {
        let (table, keys) = table.split_once("`\n").expect("a table");
        for section in keys.split("\n#### `").skip(1) {
            let (key, text) = section.split_once("`\n").expect("a key");
            let text = text.split("\n```").next().unwrap_or_default();
            let text = text.replace('\n', " ");
            let named = text.split("Default: ").nth(1).unwrap_or_default();
            // Ends at a full stop, not at the dot of an address.
            let default = named.split(". ").next().unwrap_or_default();
            let default = default.trim_end().trim_end_matches('.');
            let is_address = default.parse::<std::net::SocketAddr>().is_ok();
            let default = match is_address {
                true => format!("\"{default}\""),
                false => default.to_owned(),
            };
            let line = format!("{table}\n{key} = {default}\n");
            if line.parse::<toml::Table>().is_ok() {
                found.push((format!("{table} {key}"), default));
            }
        }
    }
    found
}

#[test]
fn the_documented_defaults_are_those_of_the_program() {
    let defaults = documented_defaults(&text_of(generate::CONFIGURATION));
    assert_eq!(defaults.len(), 8, "{defaults:?}");
    let path = Path::new("defaults");
    let tables = "[masters.NAME]\nvip = \"192.168.56.250/24\"\n[sentinel]\n[agent]\n";
    let plain = config::parse(tables, path).unwrap();
    for (key, default) in defaults {
        let (table, key) = key.split_once(' ').unwrap();
        let text = tables.replace(table, &format!("{table}\n{key} = {default}"));
        let said = config::parse(&text, path).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        assert_eq!(said, plain, "the default of {key} is not {default}");
    }
    // Those that are "none" or depend on the host.
    let master = &plain.masters["NAME"];
    assert_eq!(
        (&master.interface, &master.announce_to[..]),
        (&None, &[][..])
    );
    assert_eq!((&master.on_take_over, &master.on_release), (&None, &None));
    assert!(plain.sentinel.peers.is_empty() && plain.hosts.is_empty());
    assert_eq!(
        (plain.agent.metrics, plain.agent.socket_group),
        (None, None)
    );
}

#[test]
fn a_command_of_the_site_has_the_documented_defaults() {
    let parse = |more: &str| {
        let command = format!("{{ command = [\"/bin/true\"]{more} }}");
        let text = format!("[masters.m]\nvip = \"192.168.56.250\"\non_take_over = {command}\n");
        config::parse(&text, Path::new("x")).unwrap_or_else(|fault| panic!("{fault}\n{text}"))
    };
    let page = text_of(generate::CONFIGURATION).replace('\n', " ");
    let default = |key: &str| {
        let (_, said) = page.split_once(&format!("\"{key}\"")).expect("the key");
        let (_, default) = said.split_once("(default ").expect("its default");
        default.split_once(')').expect("its end").0.to_owned()
    };
    for key in ["timeout_seconds", "required"] {
        let said = parse(&format!(", {key} = {}", default(key)));
        assert_eq!(said, parse(""), "{key}");
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
    let markdown = text_of(generate::CONFIGURATION);
    let (_, examples) = markdown.split_once("\n## Examples\n").expect("examples");
    for text in examples.split("```toml\n").skip(1) {
        let text = text.split("```").next().unwrap_or_default();
        config::parse(text, Path::new("example")).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        number += 1;
    }
    assert_eq!(number, 4);
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

#[test]
fn the_units_that_serve_every_master_may_open_files_for_a_thousand() {
    // Up to six for each master in the agent, 15 in a hand-over, 3 in sync: as counted with 50 masters.
    for (unit, each) in [
        (
            include_str!("../../packaging/systemd/vipswitch-agent.service"),
            6,
        ),
        (
            include_str!("../../packaging/systemd/vipswitch-handover.service"),
            15,
        ),
        (
            include_str!("../../packaging/systemd/vipswitch-sync.service"),
            3,
        ),
    ] {
        let mut lines = unit.lines();
        let limit = lines.find_map(|line| line.strip_prefix("LimitNOFILE="));
        let limit: usize = limit.expect("LimitNOFILE=").parse().unwrap();
        assert!(limit >= 1_000 * each + 100, "{limit}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = readme().lines().count();
    assert!(lines <= 220, "README.md has {lines} lines");
}

#[test]
fn the_exit_codes_of_the_documents_are_those_of_the_program() {
    let (page, behaviour, readme) = (
        page("vipswitch.8"),
        text_of("docs/behaviour.md"),
        readme().to_lowercase().replace('\n', " "),
    );
    for exit in [Exit::Done, Exit::Passing, Exit::Permanent] {
        let code = exit.code();
        assert!(
            page.contains(&format!("\n.B {code}\n")),
            "vipswitch(8): {code}"
        );
        let row = format!("\n| {code} | ");
        assert_eq!(
            behaviour.matches(&row).count(),
            1,
            "docs/behaviour.md:{row}"
        );
        let in_readme = [format!("exit code {code}:"), format!("; {code}: ")];
        assert!(
            in_readme.iter().any(|text| readme.contains(text)),
            "README.md: {code}"
        );
    }
    assert!(!behaviour.contains("\n| 3 | "));
}

/// The rows of all tables below a heading, without their heads.
fn rows_below<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, below) = text.split_once(heading).expect(heading);
    let below = below.split("\n## ").next().unwrap_or_default();
    let rows = below.lines().filter(|line| line.starts_with("| "));
    rows.filter(|row| !row.starts_with("| symptom |")).collect()
}

#[test]
fn the_likeliest_troubles_stand_among_all_troubles() {
    let readme = readme();
    let all = text_of("docs/troubleshooting.md");
    let likeliest = rows_below(&readme, "\n## The ten likeliest troubles\n");
    assert_eq!(likeliest.len(), 10);
    for row in likeliest {
        assert!(all.contains(row), "docs/troubleshooting.md lacks:\n{row}");
    }
}

/// What Redis, Sentinel, systemd, the kernel and shells say, and what people type.
const OF_OTHERS: [&str; 5] = [
    "Client reconfiguration script seems non existing or non executable",
    "-script-error",
    "Network is down",
    "kill -9",
    "NOREPLICAS",
];

/// All sources of the program on one line, with what a line's end in the middle of a text hides.
fn sources() -> String {
    let files = files_below("src", ".rs");
    let all: String = files
        .iter()
        .map(|name| text_of(name.to_str().unwrap()))
        .collect();
    let joined = all.replace("\\\n", "\n").replace("\\\"", "\"");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_messages_among_the_troubles_are_those_of_the_program() {
    let all = text_of("docs/troubleshooting.md");
    let sources = sources();
    let mut number = 0;
    for row in all.lines().filter(|line| line.starts_with("| ")) {
        let symptom = row.split(" | ").next().unwrap_or_default();
        for message in symptom.split('`').skip(1).step_by(2) {
            if OF_OTHERS.iter().any(|other| message.contains(other)) {
                continue;
            }
            // What stands for a value that differs from time to time.
            for part in message.split(['…', '=']) {
                let part = part.trim_matches([' ', ':']).trim_end_matches(" 02");
                let part = part.strip_prefix("CAP_NET_ADMIN ").unwrap_or(part);
                assert!(sources.contains(part), "no source has {part:?} of {row}");
                number += 1;
            }
        }
    }
    assert!(number > 15, "{number}");
}

/// The name that a heading can be linked by, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

/// The anchors of a Markdown text.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_block = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#')));
        }
    }
    found
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut documents: Vec<PathBuf> = ["docs", "examples", "fuzz"]
        .iter()
        .flat_map(|folder| files_below(folder, ".md"))
        .collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        if name.extension().is_some_and(|end| end == "md") {
            documents.push(name);
        }
    }
    assert!(documents.len() > 12, "{documents:?}");
    let mut number = 0;
    for document in &documents {
        let text = text_of(document.to_str().unwrap());
        let links = text.split("](").skip(1);
        for link in links.filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let shown = document.display();
            assert!(root().join(&target).exists(), "{shown}: no {link}");
            if !fragment.is_empty() {
                let text = text_of(target.to_str().unwrap());
                assert!(anchors(&text).contains(fragment), "{shown}: no {link}");
            }
            number += 1;
        }
    }
    assert!(number > 50, "{number}");
}

#[test]
fn the_packages_hold_every_document_for_users() {
    let contents = text_of("tests/package/contents");
    for name in files_below("docs", ".md") {
        let place = format!("/usr/share/doc/vipswitch/{}", name.display());
        // .deb, .rpm, and the tarball.
        assert_eq!(contents.matches(&place).count(), 3, "{place}");
    }
}
