//! The listeners in force: what is to be known of each without reading its settings anew.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::choices::{PlaneChoice, ProxyProtocolChoice};
use super::faults::{Fault, Reach};
use super::group;
use super::hosts::{HostRule, Hosts};
use super::listen_address::ListenAddress;
use super::listen_settings::ListenSettings;
use super::settings::Settings;

/// The host that clients of a Unix socket are on.
const THIS_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address that is listened on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The key that the address stands in.
    pub key: &'static str,
    /// Where it listens; none where only a service manager knows.
    pub address: ListenAddress,
    /// What is served there.
    pub plane: PlaneChoice,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocolChoice,
    /// Whether an IPv6 address takes IPv6 alone.
    pub ipv6_only: bool,
    /// The permissions of a socket's file.
    pub mode: u32,
    /// The group of a socket's file, if another than the user's.
    pub group: Option<u32>,
    /// The hosts that requests may be for.
    pub hosts: Hosts,
    /// The settings that say so.
    settings: ListenSettings,
}

/// All listeners, those of the short forms first. Each keeps its place for as long as the daemon runs.
#[derive(Clone, Debug)]
pub struct Listeners {
    all: Vec<Arc<Listener>>,
    host_rules: Vec<HostRule>,
}

impl Listeners {
    /// Makes those of the settings. What can't be one is a fault.
    pub(super) fn new(
        settings: &Settings,
        host_rules: Vec<HostRule>,
        reach: Reach,
        faults: &mut Vec<Fault>,
    ) -> Listeners {
        let listener = |listen: ListenSettings| {
            // A running daemon keeps its listeners, and its sandbox doesn't show the groups.
            let group = listen.group.as_deref().filter(|_| reach == Reach::Everything).map(group::number);
            let group = group.transpose().map_err(|reason| faults.push(Fault::new("listen.group", reason)));
            Arc::new(Listener::new(listen, group.ok().flatten(), &host_rules))
        };
        let all = settings.listeners().into_iter().map(listener).collect();
        Listeners { all, host_rules }
    }

    /// Returns the same listeners by the rules of `other`, and with what a reload of `settings` changes.
    pub(super) fn renewed(&self, settings: &Settings, other: Listeners) -> Listeners {
        let renewed = |listener: &Arc<Listener>| {
            let mut new = Listener::new(listener.settings.clone(), listener.group, &other.host_rules);
            if new.key == "data_listen" {
                new.proxy_protocol = settings.proxy_protocol;
            }
            Arc::new(new)
        };
        Listeners { all: self.all.iter().map(renewed).collect(), host_rules: other.host_rules }
    }

    /// Returns all, each with its place.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Arc<Listener>)> {
        (0..).zip(&self.all)
    }

    /// Returns those of one plane, each with its place.
    pub fn of(&self, plane: PlaneChoice) -> impl Iterator<Item = (u16, &Arc<Listener>)> {
        self.iter().filter(move |(_, listener)| listener.plane == plane)
    }

    /// Whether a request for `host` is answered at a listener.
    pub fn admit(&self, place: u16, host: &[u8]) -> bool {
        self.at(place).is_some_and(|listener| listener.hosts.admit(host))
    }

    /// Returns the listener at a place.
    pub fn at(&self, place: u16) -> Option<&Listener> {
        self.all.get(usize::from(place)).map(Arc::as_ref)
    }
}

impl Listener {
    fn new(settings: ListenSettings, group: Option<u32>, host_rules: &[HostRule]) -> Listener {
        let address = settings.address.clone().unwrap_or(ListenAddress::None);
        Listener {
            key: settings.key(),
            plane: settings.plane,
            proxy_protocol: settings.proxy_protocol,
            ipv6_only: settings.ipv6_only,
            mode: settings.mode_bits(),
            group,
            hosts: Hosts::new(address.inet().unwrap_or(THIS_HOST), host_rules.to_vec()),
            address,
            settings,
        }
    }

    /// Describes it for people: its address, and what it has beyond that.
    pub fn describe(&self) -> String {
        let name = || self.settings.name.as_deref().unwrap_or_default();
        let mut text =
            if self.address.is_none() { format!("passed as {}", name()) } else { self.address.to_string() };
        if self.address.path().is_some() {
            text += &format!("  mode {:04o}", self.mode);
            if let Some(group) = &self.settings.group {
                text += &format!(", group {group}");
            }
        }
        if self.ipv6_only {
            text += "  IPv6 alone";
        }
        match self.proxy_protocol {
            ProxyProtocolChoice::Off => {}
            ProxyProtocolChoice::Optional => text += "  PROXY header optional",
            ProxyProtocolChoice::Required => text += "  PROXY header required",
        }
        text
    }
}
