//! The permissions that follow from the settings, told by `--check` and in the log, so that nobody has to work
//! them out.

use super::choices::{PlaneChoice, ProxyProtocolChoice, SinkChoice};
use super::live::Live;
use super::settings::Settings;

/// The permissions, each as a sentence that says who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Who may use GET and HEAD on the data port.
    pub reading: String,
    /// Who may send frames to the data port.
    pub frames: String,
    /// Who may use PUT, POST, PATCH and DELETE on the data port, and ask about uploads.
    pub uploads: String,
    /// Who may use the control port.
    pub control: String,
    /// Which proxies are trusted to name their clients.
    pub proxies: String,
}

impl Exposure {
    /// Describes the permissions in force.
    pub fn of(live: &Live) -> Exposure {
        let settings = &live.settings;
        Exposure {
            reading: reading(live),
            frames: frames(settings),
            uploads: uploads(live),
            control: control(live),
            proxies: proxies(settings),
        }
    }

    /// Returns each permission with its name.
    pub fn parts(&self) -> [(&'static str, &str); 5] {
        [
            ("reading", &self.reading),
            ("frames", &self.frames),
            ("uploads", &self.uploads),
            ("control", &self.control),
            ("proxies", &self.proxies),
        ]
    }
}

/// The text for programs of this host, whoever runs them.
const THIS_HOST: &str = "this host";
const EVERYBODY: &str = "everybody who reaches it";
const TOKEN: &str = "who holds the token";

fn who_reaches(is_local: bool) -> &'static str {
    if is_local { THIS_HOST } else { EVERYBODY }
}

/// Says who reaches the data plane. A proxy on this host reaches a loopback address for its clients.
fn who_reaches_data(settings: &Settings) -> &'static str {
    match (settings.data_is_local(), settings.trusted_proxies.is_empty()) {
        (true, false) => "this host and clients of trusted_proxies",
        (is_local, _) => who_reaches(is_local),
    }
}

fn reading(live: &Live) -> String {
    let settings = &live.settings;
    if live.shares.iter().next().is_none() {
        return "nobody, no root is set".to_owned();
    }
    let is_open = live.listeners.of(PlaneChoice::Data).any(|(_, listener)| listener.hosts.are_all());
    let hosts = match (is_open, settings.hosts_allowed.is_empty()) {
        (true, _) if settings.data_is_local() => "by any name, so by a proxy's clients too",
        (true, _) => "by any name",
        (false, true) => "by its own names",
        (false, false) => "by its own names and hosts_allowed",
    };
    format!("{}, {hosts}", who_reaches_data(settings))
}

fn frames(settings: &Settings) -> String {
    let sink = match settings.sink {
        SinkChoice::Discard => "which are dropped",
        SinkChoice::Store => "which are stored",
    };
    format!("{}, {sink}", who_reaches_data(settings))
}

fn uploads(live: &Live) -> String {
    if !live.settings.takes_uploads() {
        return "nobody, they are off".to_owned();
    }
    let who = if live.token.is_some() { TOKEN.to_owned() } else { format!("{THIS_HOST}, but no web page") };
    if live.settings.share.is_empty() {
        return who;
    }
    let taking = live.shares.iter().filter(|share| share.settings.uploads);
    let paths: Vec<&str> = taking.map(|share| share.path.as_str()).collect();
    format!("{who}; below {}", paths.join(", "))
}

fn control(live: &Live) -> String {
    let reach = who_reaches(live.settings.control_is_local());
    if live.token.is_some() {
        return format!("{TOKEN}; /health {reach}");
    }
    format!("{reach}, but no web page; /health web pages too")
}

/// Says which proxies are trusted, by the address that they connect from.
fn proxies(settings: &Settings) -> String {
    if settings.trusted_proxies.is_empty() {
        return "none is believed whom it stands for".to_owned();
    }
    let by_header = match settings.proxy_protocol {
        ProxyProtocolChoice::Off => "",
        ProxyProtocolChoice::Optional => "PROXY protocol, ",
        ProxyProtocolChoice::Required => "PROXY protocol, without which nobody connects, ",
    };
    let networks = settings.trusted_proxies.join(", ");
    format!("{networks} say whom they stand for: {by_header}Forwarded, X-Forwarded-For")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Exposure, Live, ProxyProtocolChoice, Settings};

    fn exposure(settings: Settings) -> Exposure {
        Exposure::of(&Live::new(settings).unwrap())
    }

    fn loopback() -> Settings {
        Settings {
            data_listen: "127.0.0.1:8080".parse().unwrap(),
            root: Some("/".into()),
            ..Settings::default()
        }
    }

    #[test]
    fn reading_is_everybodys_who_reaches_the_port() {
        let hosts = |hosts: &[&str]| hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>();
        let remote = Settings { root: Some("/".into()), ..Settings::default() };
        for (settings, expected) in [
            (Settings::default(), "nobody, no root is set"),
            (remote.clone(), "everybody who reaches it, by any name"),
            (
                Settings { hosts_allowed: hosts(&["a.example"]), ..remote },
                "everybody who reaches it, by its own names and hosts_allowed",
            ),
            (loopback(), "this host, by its own names"),
            (
                Settings { hosts_allowed: hosts(&["*"]), ..loopback() },
                "this host, by any name, so by a proxy's clients too",
            ),
        ] {
            assert_eq!(exposure(settings).reading, expected);
        }
    }

    #[test]
    fn proxies_that_are_believed_are_named() {
        let trusted = |proxy_protocol| Settings {
            trusted_proxies: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
            proxy_protocol,
            ..loopback()
        };
        for (settings, expected) in [
            (loopback(), "none is believed whom it stands for"),
            (
                trusted(ProxyProtocolChoice::Off),
                "127.0.0.0/8, ::1 say whom they stand for: Forwarded, X-Forwarded-For",
            ),
            (
                trusted(ProxyProtocolChoice::Required),
                "127.0.0.0/8, ::1 say whom they stand for: PROXY protocol, without which nobody connects, \
                 Forwarded, X-Forwarded-For",
            ),
        ] {
            let is_trusting = !settings.trusted_proxies.is_empty();
            let exposure = exposure(settings);
            assert_eq!(exposure.proxies, expected);
            let readers = if is_trusting { "this host and clients of trusted_proxies" } else { "this host" };
            assert_eq!(exposure.reading, format!("{readers}, by its own names"));
            assert_eq!(exposure.frames, format!("{readers}, which are dropped"));
            // The control plane is still this host's alone, though it needs no token.
            assert_eq!(exposure.control, "this host, but no web page; /health web pages too");
        }
    }

    #[test]
    fn a_token_closes_uploads_and_the_control_port() {
        let open = exposure(Settings { uploads: true, ..loopback() });
        assert_eq!(open.uploads, "this host, but no web page");
        assert_eq!(open.control, "this host, but no web page; /health web pages too");
        assert_eq!(exposure(loopback()).uploads, "nobody, they are off");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret").unwrap();
        let token_file = Some(file.path().to_owned());
        let closed = exposure(Settings { uploads: true, token_file, ..loopback() });
        assert_eq!(closed.uploads, "who holds the token");
        assert_eq!(closed.control, "who holds the token; /health this host");
    }
}
