//! Values that follow from several settings together.

use super::choices::{LogLevel, PlaneChoice};
use super::hosts::HostRule;
use super::listen_settings::ListenSettings;
use super::settings::Settings;

impl Settings {
    /// Returns the most bytes of stored frames of one address.
    pub fn address_spool_bytes(&self) -> u64 {
        if self.address_spool_bytes_max == 0 {
            self.spool_bytes_max / 2
        } else {
            self.address_spool_bytes_max
        }
    }

    /// Returns the most stored frames of one address.
    pub fn address_spool_files(&self) -> u64 {
        if self.address_spool_files_max == 0 {
            self.spool_files_max / 2
        } else {
            self.address_spool_files_max
        }
    }

    /// Whether the data plane can be reached from this host alone.
    pub fn data_is_local(&self) -> bool {
        self.reached_from_elsewhere(PlaneChoice::Data).is_none()
    }

    /// Whether something that only a token guards can be reached from other hosts.
    pub fn needs_token(&self) -> bool {
        !self.control_is_local() || (self.takes_uploads() && self.uploads_need_token())
    }

    /// Whether uploads would be open to other hosts without a token.
    pub fn uploads_need_token(&self) -> bool {
        !self.data_is_local() || self.opens_to_proxies()
    }

    /// Whether the data plane answers to names by which other hosts know it: those of a proxy in front of it,
    /// whose clients all look like this host.
    pub fn opens_to_proxies(&self) -> bool {
        self.hosts_allowed.iter().any(|host| HostRule::parse(host).is_ok_and(|rule| !rule.is_of_this_host()))
    }

    /// Whether transfers have access lines.
    pub fn writes_access_lines(&self) -> bool {
        self.access_log && self.log_level >= LogLevel::Info
    }

    /// Whether the control plane can be reached from this host alone.
    pub fn control_is_local(&self) -> bool {
        self.reached_from_elsewhere(PlaneChoice::Control).is_none()
    }

    /// Returns the first listener of a plane that other hosts reach.
    pub(super) fn reached_from_elsewhere(&self, plane: PlaneChoice) -> Option<ListenSettings> {
        let is_open =
            |listen: &ListenSettings| listen.address.as_ref().is_some_and(|address| !address.is_local());
        self.listeners_of(plane).find(is_open)
    }
}
