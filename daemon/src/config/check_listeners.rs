//! The rules that must hold between listeners.

use std::net::IpAddr;

use super::choices::{PlaneChoice, ProxyProtocolChoice};
use super::faults::Fault;
use super::listen_address::ListenAddress;
use super::listen_settings::{ListenSettings, NAMES_OF_SHORT_FORMS};
use super::settings::Settings;

/// The most listeners besides the short forms: a host's networks and users of sockets, several times over. Each takes a
/// descriptor and a task of each worker.
const TABLES_MAX: usize = 64;

/// Finds listeners that contradict themselves or each other, and planes that nobody could reach.
pub(super) fn combinations(settings: &Settings, faults: &mut Vec<Fault>) {
    let count = settings.listen.len();
    if count > TABLES_MAX {
        let reason = format!("{count} are more than {TABLES_MAX}: let one listener have several clients");
        faults.push(Fault::new("listen", reason));
    }
    settings.listen.iter().for_each(|listen| check_table(listen, faults));
    if let Some(listen) = settings.reached_from_elsewhere(PlaneChoice::Control)
        && settings.token_file.is_none()
    {
        faults.push(Fault::new(listen.key(), open_to_others(&listen)));
    }
    for plane in [PlaneChoice::Data, PlaneChoice::Control] {
        if settings.listeners_of(plane).next().is_none() {
            let name = plane.name();
            let reason =
                format!("is none, and no [[listen]] has plane = \"{name}\": name an address for this plane");
            faults.push(Fault::new(&format!("{name}_listen"), reason));
        }
    }
    let listeners = settings.listeners();
    for (place, listen) in listeners.iter().enumerate() {
        listeners[..place].iter().for_each(|before| check_pair(before, listen, faults));
        if listen.proxy_protocol == ProxyProtocolChoice::Required && settings.trusted_proxies.is_empty() {
            let key = if listen.key() == "listen" { "listen.proxy_protocol" } else { "proxy_protocol" };
            let reason = "required of everybody and believed of nobody, so that nobody could connect: set \
                          trusted_proxies";
            faults.push(Fault::new(key, reason));
        }
    }
}

/// Says that other hosts reach a listener on which something has no guard.
pub(super) fn open_to_others(listen: &ListenSettings) -> String {
    let address = listen.address.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{address} can be reached from other hosts: set token_file, or listen on 127.0.0.1")
}

/// Finds settings of one table that contradict each other.
fn check_table(listen: &ListenSettings, faults: &mut Vec<Fault>) {
    let mut add = |key: &str, reason: String| faults.push(Fault::new(&format!("listen.{key}"), reason));
    let address = listen.address.as_ref();
    if address.is_none_or(ListenAddress::is_none) && (address.is_some() || listen.name.is_none()) {
        let remedy = "as address = \"[::]:8080\", or the name of a socket that a service manager passes";
        add("address", format!("is missing: a listener has one, {remedy}"));
    }
    if listen.plane == PlaneChoice::Control && listen.proxy_protocol != ProxyProtocolChoice::Off {
        add("proxy_protocol", "the control plane takes no PROXY headers: leave it away there".to_owned());
    }
    let is_v6 = |address: &ListenAddress| address.inet().is_some_and(|address| address.is_ipv6());
    if listen.ipv6_only && address.is_some_and(|address| !is_v6(address)) {
        add("ipv6_only", "is for addresses of IPv6, as [::]:8080: leave it away here".to_owned());
    }
    for (key, is_set) in [("mode", listen.mode.is_some()), ("group", listen.group.is_some())] {
        if is_set && address.is_some_and(|address| address.inet().is_some()) {
            add(key, "is for Unix sockets, as unix:/run/streamd/data.sock: leave it away here".to_owned());
        }
    }
    let is_of_short_form = |name: &str| NAMES_OF_SHORT_FORMS.contains(&name);
    // A second socket that was passed for a short form has its name, and an address.
    if listen.name.as_deref().is_some_and(is_of_short_form) && address.is_none() {
        add(
            "name",
            "data and control are the names of data_listen and control_listen: choose another".to_owned(),
        );
    }
}

/// Finds two listeners that can't both be.
fn check_pair(before: &ListenSettings, listen: &ListenSettings, faults: &mut Vec<Fault>) {
    let key = listen.key();
    let is_same_name = before.name.is_some() && before.name == listen.name && key == "listen";
    if is_same_name && (before.address.is_none() || listen.address.is_none()) {
        faults.push(Fault::new("listen.name", "is the name of two listeners: give each its own"));
    }
    let (Some(one), Some(other)) = (&before.address, &listen.address) else { return };
    if one == other && one.inet().is_none_or(|address| address.port() != 0) {
        let reason = match one {
            ListenAddress::Inet(_) => format!("the same address and port as {}", named(before)),
            _ => format!("the same path as {}", named(before)),
        };
        faults.push(Fault::new(key, reason));
    } else if let Some(open) =
        [(before, listen), (listen, before)].into_iter().find(|(v6, v4)| takes_too(v6, v4))
    {
        let v6 = open.0.address.as_ref().map(ToString::to_string).unwrap_or_default();
        let reason =
            format!("{v6} takes IPv4 too, and so this port of {}: set ipv6_only there", named(open.1));
        faults.push(Fault::new(key, reason));
    }
}

/// Names a listener by its key, and a table by its address.
fn named(listen: &ListenSettings) -> String {
    match (listen.key(), &listen.address) {
        ("listen", Some(address)) => format!("another [[listen]], {address}"),
        (key, _) => key.to_owned(),
    }
}

/// Whether the first listens on `[::]` for IPv4 as well, at the port of the second's IPv4 address.
fn takes_too(v6: &ListenSettings, v4: &ListenSettings) -> bool {
    let inet = |listen: &ListenSettings| listen.address.as_ref().and_then(ListenAddress::inet);
    let (Some(v6_address), Some(v4_address)) = (inet(v6), inet(v4)) else { return false };
    let is_all = matches!(v6_address.ip(), IpAddr::V6(address) if address.is_unspecified());
    is_all
        && !v6.ipv6_only
        && v4_address.is_ipv4()
        && v4_address.port() == v6_address.port()
        && v4_address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::{ListenSettings, PlaneChoice, ProxyProtocolChoice, Settings, combinations};
    use crate::config::ListenAddress;

    fn at(address: &str) -> ListenSettings {
        ListenSettings { address: Some(address.parse().unwrap()), ..ListenSettings::default() }
    }

    fn faults(settings: &Settings) -> Vec<String> {
        let mut faults = Vec::new();
        combinations(settings, &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    fn with(listen: Vec<ListenSettings>) -> Settings {
        Settings { data_listen: "127.0.0.1:8080".parse().unwrap(), listen, ..Settings::default() }
    }

    #[test]
    fn several_listeners_of_each_plane_are_fine() {
        let control = ListenSettings { plane: PlaneChoice::Control, ..at("unix:/run/control.sock") };
        let named = ListenSettings { name: Some("files".to_owned()), ..ListenSettings::default() };
        let socket = ListenSettings { mode: Some("0600".to_owned()), ..at("unix:/run/data.sock") };
        let v6 = ListenSettings { ipv6_only: true, ..at("[::]:8082") };
        let settings =
            with(vec![control, named, socket, v6, at("0.0.0.0:8082"), at("127.0.0.1:0"), at("127.0.0.1:0")]);
        assert_eq!(faults(&settings), [] as [String; 0]);
        let tables_alone = Settings {
            data_listen: ListenAddress::None,
            control_listen: ListenAddress::None,
            ..with(vec![at("unix:/a"), ListenSettings { plane: PlaneChoice::Control, ..at("unix:/b") }])
        };
        assert_eq!(faults(&tables_alone), [] as [String; 0]);
    }

    #[test]
    fn listeners_that_can_not_be_are_named_with_a_remedy() {
        let required = ProxyProtocolChoice::Required;
        let control = || ListenSettings { plane: PlaneChoice::Control, ..at("unix:/c") };
        for (listen, expected) in [
            (ListenSettings::default(), "listen.address: is missing"),
            (at("none"), "listen.address: is missing"),
            (
                ListenSettings { name: Some("data".into()), ..ListenSettings::default() },
                "listen.name: data and",
            ),
            (
                ListenSettings { proxy_protocol: required, ..at("unix:/a") },
                "listen.proxy_protocol: required of",
            ),
            (
                ListenSettings { proxy_protocol: ProxyProtocolChoice::Optional, ..control() },
                "listen.proxy_protocol: the control plane takes no",
            ),
            (
                ListenSettings { ipv6_only: true, ..at("10.0.0.1:1") },
                "listen.ipv6_only: is for addresses of IPv6",
            ),
            (
                ListenSettings { ipv6_only: true, ..at("unix:/a") },
                "listen.ipv6_only: is for addresses of IPv6",
            ),
            (
                ListenSettings { mode: Some("0600".into()), ..at("10.0.0.1:1") },
                "listen.mode: is for Unix sockets",
            ),
            (
                ListenSettings { group: Some("www".into()), ..at("[::1]:1") },
                "listen.group: is for Unix sockets",
            ),
            (at("127.0.0.1:8080"), "listen: the same address and port as data_listen"),
            (
                at("[::]:8080"),
                "listen: [::]:8080 takes IPv4 too, and so this port of data_listen: set ipv6_only",
            ),
            (
                ListenSettings { plane: PlaneChoice::Control, ..at("0.0.0.0:9") },
                "listen: 0.0.0.0:9 can be reached from other hosts: set token_file",
            ),
        ] {
            let found = faults(&with(vec![listen]));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
        let many = with((0..65).map(|number| at(&format!("unix:/{number}"))).collect());
        assert_eq!(faults(&many), ["listen: 65 are more than 64: let one listener have several clients"]);
        let twice = faults(&with(vec![at("unix:/a"), at("unix:/a")]));
        assert_eq!(twice, ["listen: the same path as another [[listen]], unix:/a"]);
        let none = Settings { data_listen: ListenAddress::None, ..Settings::default() };
        assert!(faults(&none)[0].starts_with("data_listen: is none, and no [[listen]] has plane = \"data\""));
    }
}
