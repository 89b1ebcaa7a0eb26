//! A listener: the settings of `[[listen]]`, of which `data_listen` and `control_listen` are the short forms.

use super::choices::{PlaneChoice, ProxyProtocolChoice};
use super::kind::Kind;
use super::listen_address::ListenAddress;
use super::setting::settings;
use super::settings::Settings;
use super::value::choices;

/// The permissions of a socket that nobody gave others, as a number: its owner and its group connect.
pub(super) const MODE_DEFAULT: u32 = 0o660;

/// The bits that a mode may have: those of owner, group and others.
const MODE_BITS: u32 = 0o777;

/// The name of the socket that a service manager passes for `data_listen`, and of the one for `control_listen`.
pub const NAMES_OF_SHORT_FORMS: [&str; 2] = ["data", "control"];

settings! {
    /// An address and what is spoken there. It takes nothing from the top of the file.
    pub struct ListenSettings {
        /// Address and port, or path of a Unix socket.
        address: Option<ListenAddress> = None, "A listener is somewhere.", Kind::Address, Node, Restart;
        /// What is served there.
        plane: PlaneChoice = PlaneChoice::Data, "Files are what most listen for.",
            Kind::Choice(choices::<PlaneChoice>), Node, Restart;
        /// Whether connections begin with a PROXY protocol header, version 1 or 2; on the data plane.
        proxy_protocol: ProxyProtocolChoice = ProxyProtocolChoice::Off, "No proxy sends a header unless it is told to.",
            Kind::Choice(choices::<ProxyProtocolChoice>), Node, Restart;
        /// Whether an IPv6 address takes IPv6 alone; [::] takes IPv4 too without it.
        ipv6_only: bool = false, "One address for everybody, whatever net.ipv6.bindv6only says.",
            Kind::Switch, Node, Restart;
        /// Who may connect to a Unix socket, as chmod writes it: whoever may write.
        mode: Option<String> = None, "Its owner and its group, as of a service's other files.",
            Kind::Text { what: "MODE", example: "0660", check: |text| mode(text).map(|_| ()) }, Node, Restart
            { default_words: "0660" };
        /// Group of a Unix socket: a name of /etc/group, or a number.
        group: Option<String> = None, "That of the user who runs streamd.", Kind::Name("www-data"), Node, Restart;
        /// Name by which a service manager passes the socket (FileDescriptorName=).
        name: Option<String> = None, "Most sockets are bound by the daemon itself.", Kind::Name("files"), Node, Restart;
    }
}

impl ListenSettings {
    /// Returns the key that the address stands in.
    pub fn key(&self) -> &'static str {
        match self.name.as_deref() {
            Some("data") => "data_listen",
            Some("control") => "control_listen",
            _ => "listen",
        }
    }

    /// Returns the mode of the socket's file.
    pub fn mode_bits(&self) -> u32 {
        self.mode.as_deref().and_then(|text| mode(text).ok()).unwrap_or(MODE_DEFAULT)
    }

    fn short(name: &str, address: &ListenAddress, plane: PlaneChoice) -> Option<ListenSettings> {
        let address = Some(address.clone()).filter(|address| !address.is_none());
        address.is_some().then(|| ListenSettings {
            address,
            plane,
            name: Some(name.to_owned()),
            ..ListenSettings::default()
        })
    }
}

impl Settings {
    /// Returns all listeners: those of the short forms, and then the tables.
    pub fn listeners(&self) -> Vec<ListenSettings> {
        let [data, control] = NAMES_OF_SHORT_FORMS;
        let data = ListenSettings::short(data, &self.data_listen, PlaneChoice::Data)
            .map(|listen| ListenSettings { proxy_protocol: self.proxy_protocol, ..listen });
        let control = ListenSettings::short(control, &self.control_listen, PlaneChoice::Control);
        data.into_iter().chain(control).chain(self.listen.iter().cloned()).collect()
    }

    /// Returns the listeners of one plane.
    pub fn listeners_of(&self, plane: PlaneChoice) -> impl Iterator<Item = ListenSettings> {
        self.listeners().into_iter().filter(move |listen| listen.plane == plane)
    }
}

/// Reads a mode as chmod(1) does, in octal.
fn mode(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let bits = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    bits.filter(|bits| *bits & !MODE_BITS == 0)
        .ok_or_else(|| format!("{text:?} is no mode: expected permissions in octal, as \"0660\""))
}

#[cfg(test)]
mod tests {
    use super::{MODE_DEFAULT, mode};

    #[test]
    fn a_mode_is_permissions_in_octal() {
        assert_eq!(
            ["0660", "660", "0", "777"].map(mode),
            [Ok(MODE_DEFAULT), Ok(MODE_DEFAULT), Ok(0), Ok(0o777)]
        );
        for text in ["", "0o660", "rw", "888", "1777", "+660", "99999999999"] {
            assert!(mode(text).unwrap_err().contains("no mode"), "{text}");
        }
    }
}
