//! The table of what is listened on.

use super::line::line;
use crate::config::Live;

/// The width of the plane's name in the table.
const PLANE_COLUMN: usize = 9;

/// Returns the lines of `--check` about what is listened on: one address for each plane, or a table.
pub fn listeners(live: &Live) -> String {
    let all: Vec<_> = live.listeners.iter().map(|(_, listener)| listener).collect();
    if live.settings.listen.is_empty() {
        let each: Vec<String> =
            all.iter().map(|one| format!("{} {}", one.plane.name(), one.describe())).collect();
        return line("listening", &each.join(", "));
    }
    let rows = all.iter().enumerate();
    rows.map(|(row, one)| {
        let is = format!("{:<PLANE_COLUMN$}{}", one.plane.name(), one.describe());
        line(if row == 0 { "listening" } else { "" }, &is)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Live, listeners};
    use crate::config::{ListenSettings, ProxyProtocolChoice, Settings};

    #[test]
    fn the_table_has_each_listener_with_what_it_has() {
        let at = |address: &str| ListenSettings {
            address: Some(address.parse().unwrap()),
            ..ListenSettings::default()
        };
        let socket = ListenSettings {
            mode: Some("0666".to_owned()),
            group: Some("0".to_owned()),
            proxy_protocol: ProxyProtocolChoice::Optional,
            ..at("unix:/run/data.sock")
        };
        let v6 = ListenSettings { ipv6_only: true, ..at("[::]:8082") };
        let named = ListenSettings { name: Some("files".to_owned()), ..ListenSettings::default() };
        let live = Live::new(Settings { listen: vec![socket, v6, named], ..Settings::default() }).unwrap();
        let expected = "listening      data     0.0.0.0:8080\n               control  127.0.0.1:8081\n               \
                        data     unix:/run/data.sock  mode 0666, group 0  PROXY header optional\n               \
                        data     [::]:8082  IPv6 alone\n               data     passed as files\n";
        assert_eq!(listeners(&live), expected);
        let short = Live::new(Settings::default()).unwrap();
        assert_eq!(listeners(&short), "listening      data 0.0.0.0:8080, control 127.0.0.1:8081\n");
    }
}
