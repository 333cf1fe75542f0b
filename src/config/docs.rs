//! `docs/CONFIG.md`, made from the table of keys.

use super::keys::{KEYS, UNBUILT};
use super::load::{Sources, load};

/// The page. A test compares it with the committed file.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         This page is generated from `src/config/keys.rs`; `SPANWIRE_BLESS=1 cargo test --test it` writes it anew.\n\n\
         Defaults are overridden by the YAML file, that by the environment, that by flags. The file is named by\n\
         `--config`, `OTEL_EBPF_CONFIG_PATH` or `BEYLA_CONFIG_PATH`. In it, `${VAR}`, `${VAR:-default}`, `${env:VAR}` and\n\
         `$(VAR)` stand for the environment, `$$` for a dollar. Durations are Go's (`500ms`, `1m30s`). Any key can be given\n\
         on the command line as `--set key=value`. `spanwire config` prints every value with its origin.\n\n\
         | key | environment | default | meaning |\n|---|---|---|---|\n",
    );
    let defaults = load(&Sources::default()).map(|loaded| loaded.values).unwrap_or_default();
    for (key, (_, default, _)) in KEYS.iter().zip(defaults) {
        let env: Vec<String> = key.env.iter().map(|name| format!("`{name}`")).collect();
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            key.path,
            env.join(", "),
            default.replace('|', "\\|"),
            key.doc.replace('|', "\\|")
        ));
    }
    out.push_str("\n## Known and not built yet\n\nThese keys of OBI and Beyla are accepted, with one line in the log:\n\n");
    let unbuilt: Vec<String> = UNBUILT.iter().map(|name| format!("`{name}`")).collect();
    out.push_str(&unbuilt.join(", "));
    out.push('\n');
    out
}
