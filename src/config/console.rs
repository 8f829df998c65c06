//! `[console]`: where the service answers whether it works.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::console::Settings;
use crate::diagnostic::Diagnostics;
use crate::settings::Places;

/// Where the service answers whether it works: `GET /healthz`, 200 or 503 with what is wrong as JSON.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleTable {
    /// Address and port, such as `127.0.0.1:7080`. Nothing listens if not set.
    pub listen: Option<String>,
    /// True lets it listen where other machines can ask. It tells names of sources and destinations, and numbers.
    pub public: bool,
    /// A delivery that is in line for longer is a problem, in minutes. 120 if not set.
    #[schemars(range(min = 1, max = 10080))]
    pub overdue_minutes: u32,
}

impl Default for ConsoleTable {
    fn default() -> Self {
        Self { listen: None, public: false, overdue_minutes: 120 }
    }
}

pub(super) fn check(table: &ConsoleTable, places: &Places, faults: &mut Diagnostics) -> Option<Settings> {
    let text = table.listen.as_deref()?;
    let mut fault = |code, sentence: String, hint: &str| {
        faults.push(places.fault(&["console", "listen"], code, sentence).hint(hint));
    };
    let text = text.trim();
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port))),
        None => text.parse().ok(),
    };
    let Some(listen) = address else {
        fault(
            "bad_value",
            format!("`{text}` is not an address to listen on"),
            "write an address and a port, such as `127.0.0.1:7080`",
        );
        return None;
    };
    if !listen.ip().is_loopback() && !table.public {
        let hint = "write `127.0.0.1`, or add `public = true` if other machines are to ask";
        fault("not_loopback", format!("`{text}` can be reached from other machines"), hint);
        return None;
    }
    Some(Settings { listen, overdue: Duration::from_secs(u64::from(table.overdue_minutes) * 60) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;
    use crate::settings;

    #[derive(Debug, Deserialize, JsonSchema)]
    struct File {
        #[serde(default)]
        console: ConsoleTable,
    }

    fn checked(text: &str) -> Result<Option<Settings>, String> {
        let parsed = settings::parse::<File>(&SourceFile::new("c.toml", text.to_owned())).map_err(|f| f.render())?;
        let mut faults = Diagnostics::new();
        let settings = check(&parsed.value.console, &parsed.places, &mut faults);
        if faults.is_empty() { Ok(settings) } else { Err(faults.render()) }
    }

    #[test]
    fn nothing_listens_unless_it_is_told_to_and_only_for_this_machine_unless_that_is_said() {
        assert_eq!(checked(""), Ok(None));
        let here = checked("[console]\nlisten = 'localhost:7080'\noverdue_minutes = 5\n").expect("good").expect("set");
        assert_eq!((here.listen.to_string(), here.overdue.as_secs()), ("127.0.0.1:7080".to_owned(), 300));
        assert!(checked("[console]\nlisten = '[::1]:7080'\n").is_ok());
        for (text, part) in [
            ("listen = '0.0.0.0:7080'", "`public = true`"),
            ("listen = '7080'", "c.toml:2:10"),
            ("overdue_minutes = 0", "overdue_minutes"),
            ("listne = 'x'", "did you mean `listen`?"),
        ] {
            let faults = checked(&format!("[console]\n{text}\n")).expect_err("a fault");
            assert!(faults.contains(part), "{part} in\n{faults}");
        }
        assert!(checked("[console]\nlisten = '0.0.0.0:7080'\npublic = true\n").expect("good").is_some());
    }
}
