//! What a process is called: `service.name` and the rest of its resource.

mod labels;

pub use labels::Labels;

use std::borrow::Cow;
use std::fs;

use crate::config::{Selector, percent_decoded};
use crate::proc::{Facts, Language, Place};
use crate::span::{Resource, Value};

/// What is the same for all processes.
#[derive(Clone, Debug)]
pub struct Naming {
    host: String,
    host_id: Option<String>,
    service_name: Option<String>,
    namespace: Option<String>,
    attributes: Vec<(String, String)>,
    labels: Labels,
}

/// What is known of a process by itself, wherever it runs.
#[derive(Clone, Debug)]
pub struct Basis {
    pid: u32,
    exe: Box<str>,
    language: Language,
    /// Said by the process, or by the user.
    name: Option<String>,
    space: Option<String>,
    instance: Option<String>,
    attributes: Vec<(String, String)>,
    /// Its name where nobody gives it one.
    fallback: String,
}

/// Interpreters: the service is what they run.
const INTERPRETERS: [&str; 9] = ["python", "pypy", "node", "ruby", "perl", "php", "bash", "sh", "java"];

fn attributes(text: &str) -> Vec<(String, String)> {
    let each = text.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), percent_decoded(value.trim()))).filter(|(key, _)| !key.is_empty())
    });
    each.collect()
}

fn text(value: &str) -> Value {
    Value::Str(Cow::Owned(value.to_owned()))
}

impl Basis {
    /// The same of a forked child, which is an instance of its own.
    #[must_use]
    pub fn of_child(&self, pid: u32) -> Self {
        Self { pid, instance: None, ..self.clone() }
    }
}

impl Naming {
    /// `service_name`, `namespace` and `resource_attributes` are the configuration's.
    #[must_use]
    pub fn new(
        service_name: Option<String>,
        namespace: Option<String>,
        resource_attributes: Option<&str>,
        labels: Labels,
    ) -> Self {
        let host =
            nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let host_id = fs::read_to_string("/etc/machine-id").ok().map(|id| id.trim().to_owned());
        Self {
            host,
            host_id: host_id.filter(|id| !id.is_empty()),
            service_name: service_name.filter(|name| !name.is_empty()),
            namespace,
            attributes: resource_attributes.map(attributes).unwrap_or_default(),
            labels,
        }
    }

    /// What a process says of itself. `entry` is what selected it.
    #[must_use]
    pub fn basis(&self, facts: &Facts, language: Language, entry: Option<&Selector>) -> Basis {
        // The process's own words win over ours.
        let mut all = self.attributes.clone();
        for (key, value) in
            facts.env("OTEL_RESOURCE_ATTRIBUTES").map(|text| attributes(&text)).unwrap_or_default()
        {
            all.retain(|(known, _)| *known != key);
            all.push((key, value));
        }
        let mut pick = |key: &str| {
            let at = all.iter().position(|(known, _)| known == key)?;
            Some(all.remove(at).1)
        };
        let (attribute_name, attribute_space) = (pick("service.name"), pick("service.namespace"));
        let instance = pick("service.instance.id");
        let name = facts
            .env("OTEL_SERVICE_NAME")
            .or(attribute_name)
            .or_else(|| entry.and_then(|entry| entry.name.clone()))
            .or_else(|| self.service_name.clone());
        let space = attribute_space
            .or_else(|| entry.and_then(|entry| entry.namespace.clone()))
            .or_else(|| self.namespace.clone());
        Basis {
            pid: facts.pid,
            exe: facts.exe.as_str().into(),
            language,
            name,
            space,
            instance,
            attributes: all,
            fallback: service_name(facts),
        }
    }

    /// The resource of a process that runs at `place`.
    #[must_use]
    pub fn resource(&self, basis: &Basis, place: &Place) -> Resource {
        let named = self.labels.of(place);
        let name = basis.name.as_deref().or(named.name.as_deref()).unwrap_or(&basis.fallback);
        let space = basis.space.as_deref().or(named.namespace.as_deref());
        let mut out: Vec<(Box<str>, Value)> = Vec::new();
        let mut put = |key: &str, value: Value| out.push((key.into(), value));
        put("telemetry.sdk.language", text(basis.language.as_str()));
        put("telemetry.sdk.name", text("spanwire"));
        put("telemetry.sdk.version", text(env!("CARGO_PKG_VERSION")));
        put("host.name", text(&self.host));
        if let Some(id) = &self.host_id {
            put("host.id", text(id));
        }
        put("os.type", text("linux"));
        put("process.pid", Value::Int(basis.pid.into()));
        put("process.executable.name", text(basis.exe.rsplit('/').next().unwrap_or_default()));
        put("process.executable.path", text(&basis.exe));
        // No command line: it is where people put passwords.
        self.labels.put(place, &mut put);
        // The process's own words, then the pod's.
        for (key, value) in basis.attributes.iter().chain(&named.attributes) {
            // What is computed gives way to nobody.
            if !out.iter().any(|(known, _)| **known == **key) {
                out.push((key.as_str().into(), text(value)));
            }
        }
        let instance = basis.instance.clone().or(named.instance);
        Resource {
            service_name: name.into(),
            service_namespace: space.map(Into::into),
            instance_id: instance.unwrap_or_else(|| format!("{}:{}", self.host, basis.pid)).into(),
            attributes: out,
        }
    }

    /// The resource of a forked child whose parent left no more than its own, with another pid.
    #[must_use]
    pub fn of_child(&self, parent: &Resource, pid: u32) -> Resource {
        let mut child = parent.clone();
        child.instance_id = format!("{}:{pid}", self.host).into();
        for (key, value) in &mut child.attributes {
            if &**key == "process.pid" {
                *value = Value::Int(pid.into());
            }
        }
        child
    }
}

/// Whether `exe` is the name of one, with or without a version.
fn is_interpreter(exe: &str) -> bool {
    INTERPRETERS.iter().any(|name| {
        exe.strip_prefix(name)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-'))
    })
}

/// What a program wrote over its arguments: `puma 6.4.2 (tcp://0.0.0.0:80) [shop]`, `gunicorn: worker [shop:app]`.
fn title(args: &[String]) -> Option<&str> {
    let (first, rest) = args.split_first()?;
    if rest.iter().any(|arg| !arg.is_empty()) || is_interpreter(first.rsplit('/').next()?) {
        return None;
    }
    // With what it runs behind it, not the same before and after it is written.
    let word = first.split_whitespace().next()?.trim_end_matches(':');
    (!word.is_empty() && !word.starts_with('-')).then_some(word)
}

/// Options of an interpreter whose value is an argument of its own.
fn options_with_value(exe: &str) -> &'static [&'static str] {
    match exe.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-') {
        "python" | "pypy" => &["-W", "-X"],
        "java" => &["-cp", "-classpath", "--class-path"],
        "node" => &["-r", "--require", "--import", "--loader", "--experimental-loader"],
        "php" => &["-S", "-t", "-d", "-c"],
        "ruby" => &["-r", "-I", "-C"],
        "perl" => &["-I"],
        _ => &[],
    }
}

/// Name of the executable; for an interpreter that of the script, module or jar it runs.
fn service_name(facts: &Facts) -> String {
    let exe = facts.exe_name();
    if !is_interpreter(exe) {
        return exe.to_owned();
    }
    if let Some(title) = title(&facts.args) {
        return stem(title);
    }
    let with_value = options_with_value(exe);
    let mut args = facts.args.get(1..).unwrap_or_default().iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            option if with_value.contains(&option) => {
                args.next();
            }
            "-m" | "-jar" => return args.next().map_or_else(|| exe.to_owned(), |arg| stem(arg)),
            "-c" | "-e" => break,
            option if option.starts_with('-') => {}
            "" => break,
            // Of Ruby: it goes on as the program.
            bundle
                if stem(bundle) == "bundle" && args.as_slice().first().is_some_and(|arg| arg == "exec") =>
            {
                args.next();
            }
            script => return stem(script),
        }
    }
    exe.to_owned()
}

fn stem(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let known = ["py", "js", "mjs", "cjs", "ts", "rb", "pl", "php", "jar", "sh", "java", "pyc"];
    match name.rsplit_once('.') {
        Some((stem, extension)) if known.contains(&extension) && !stem.is_empty() => stem.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_by_what_they_run() {
        let name = |args: &str| {
            let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
            service_name(&Facts { exe: args[0].clone(), args, ..Facts::default() })
        };
        assert_eq!(name("/usr/sbin/nginx -g x"), "nginx");
        assert_eq!(name("/usr/bin/python3.11 -u /opt/shop/cart.py --x"), "cart");
        assert_eq!(name("/usr/bin/python3 -m http.server 80"), "http.server");
        assert_eq!(name("/usr/bin/python3 /usr/bin/gunicorn app:app"), "gunicorn");
        assert_eq!(name("/usr/bin/node --inspect server.mjs"), "server");
        assert_eq!(name("/usr/bin/java -Xmx1g -cp a:b org.shop.Main"), "org.shop.Main");
        assert_eq!(name("/usr/bin/python3 -c code"), "python3");
        assert_eq!(name("/opt/pythonista x.py"), "pythonista");
        assert_eq!(name("/usr/bin/ruby3.1 /usr/bin/puma -b tcp://0.0.0.0:80"), "puma");
        assert_eq!(name("/usr/bin/ruby3.1 /usr/local/bin/bundle exec puma -t 4"), "puma");
        assert_eq!(name("/usr/bin/ruby3.1 /usr/local/bin/bundle install"), "bundle");
        assert_eq!(name("/usr/bin/ruby3.1 -I lib -S puma"), "puma");
        assert_eq!(name("/usr/bin/php8.2 -S 127.0.0.1:80 -t public server.php"), "server");
        assert_eq!(name("/usr/bin/php8.2 -c /etc/php.ini cart.php"), "cart");
        assert_eq!(name("/usr/bin/php8.2 -S 127.0.0.1:80"), "php8.2");
        assert_eq!(name("/usr/bin/perl -I lib shop.pl daemon"), "shop");
        assert_eq!(name("/usr/bin/node -r ./otel.js cart.js"), "cart");
    }

    #[test]
    fn services_are_named_by_their_titles() {
        let name = |exe: &str, title: &str| {
            let args = [title, "", ""].map(str::to_owned).to_vec();
            service_name(&Facts { exe: exe.to_owned(), args, ..Facts::default() })
        };
        assert_eq!(name("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://127.0.0.1:80) [shop]"), "puma");
        assert_eq!(name("/usr/bin/ruby3.1", "puma: cluster worker 0: 14520 [shop]"), "puma");
        assert_eq!(name("/usr/bin/python3.11", "gunicorn: master [shop:app]"), "gunicorn");
        assert_eq!(name("/usr/bin/node", "/srv/cart.js"), "cart");
        assert_eq!(name("/usr/bin/node", "node"), "node");
        assert_eq!(name("/usr/bin/bash", "-bash"), "bash");
        assert_eq!(name("/usr/bin/python3.11", ""), "python3.11");
        assert_eq!(name("/usr/sbin/nginx", "nginx: worker process"), "nginx");
    }
}
