//! The man pages and completions of the packages, as the command line is.

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use spanwire::cli::Args;

use crate::config::blessed;

const SECTION: &str = "8";

/// What the definition of the command line does not say.
const FILES: [(&str, &str); 3] = [
    ("/etc/spanwire/spanwire.yaml", "Configuration of the service; every key with its default."),
    (
        "/etc/default/spanwire, /etc/sysconfig/spanwire",
        "Its environment, where the package is a deb or an rpm.",
    ),
    ("/usr/share/doc/spanwire/docs/", "CONFIG.md, INSTALL.md, TROUBLESHOOTING.md and more."),
];
const STATUS: [(&str, &str); 4] = [
    ("0", "Success."),
    ("1", "A failure."),
    ("2", "A wrong command line or configuration."),
    ("70", "A bug. After --, the status is that of the command."),
];

fn list(page: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    page.control("SH", [title]);
    for (name, text) in rows {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*text)]);
    }
}

/// Names and texts of the pages: of the program, and of each command that is not hidden.
fn pages() -> Vec<(String, String)> {
    let mut whole = Args::command().disable_help_subcommand(true);
    whole.build();
    let version = format!("spanwire {}", env!("CARGO_PKG_VERSION"));
    let commands = std::iter::once(&whole).chain(whole.get_subcommands().filter(|one| !one.is_hide_set()));
    let of = |command: &clap::Command| {
        let first = command.get_name() == "spanwire";
        let man = Man::new(command.clone())
            .section(SECTION)
            .date("")
            .source(&version)
            .manual("System Administration");
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        if first {
            man.render_subcommands_section(&mut page).unwrap();
            let mut rest = Roff::new();
            list(&mut rest, "FILES", &FILES);
            list(&mut rest, "EXIT STATUS", &STATUS);
            rest.to_writer(&mut page).unwrap();
        }
        (man.get_filename(), String::from_utf8(page).unwrap())
    };
    commands.map(of).collect()
}

#[test]
fn the_man_pages_are_as_the_command_line() {
    let pages = pages();
    assert!(pages.len() >= 5, "{:?}", pages.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for (name, text) in &pages {
        blessed(&format!("packaging/man/{name}"), text);
    }
    let kept = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/man")).unwrap();
    assert_eq!(kept.count(), pages.len(), "packaging/man has a page of no command");
}

#[test]
fn the_completions_are_as_the_command_line() {
    for (shell, name) in
        [(Shell::Bash, "spanwire.bash"), (Shell::Zsh, "_spanwire"), (Shell::Fish, "spanwire.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "spanwire", &mut text);
        blessed(&format!("packaging/completions/{name}"), &String::from_utf8(text).unwrap());
    }
}
