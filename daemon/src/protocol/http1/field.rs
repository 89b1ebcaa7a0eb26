//! A header field: its name, and its values where it repeats.

use crate::protocol::http1::error::RequestError;

/// A field whose repetition is noted, since it is an error or has a meaning.
#[derive(Default)]
pub(super) struct Once<'b> {
    pub(super) value: Option<&'b [u8]>,
    pub(super) repeated: bool,
}

impl<'b> Once<'b> {
    pub(super) fn add(&mut self, value: &'b [u8]) {
        self.repeated |= self.value.is_some();
        self.value.get_or_insert(value);
    }

    /// Returns the value of a field that may stand in a head once.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&'b [u8]>, RequestError> {
        if self.repeated { Err(RequestError::FieldRepeated { name }) } else { Ok(self.value) }
    }
}

/// Writes a field's name in lower case into `room`; `None` when it doesn't fit.
pub(super) fn lower_case<'r>(name: &str, room: &'r mut [u8]) -> Option<&'r [u8]> {
    let lower_case = room.get_mut(..name.len())?;
    lower_case.copy_from_slice(name.as_bytes());
    lower_case.make_ascii_lowercase();
    Some(lower_case)
}

/// Returns the members of a comma-separated list (RFC 9110 5.6.1) without empty ones.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Keeps the first value of a field that doesn't affect the answer, and whose repetition is harmless.
pub(super) fn keep_first<'b>(field: &mut Option<&'b [u8]>, value: &'b [u8]) {
    field.get_or_insert(value);
}

/// Joins the lines of one list to a single list (RFC 9110 5.3).
pub(super) fn join(list: &mut Option<Vec<u8>>, value: &[u8]) {
    match list {
        Some(list) => {
            list.extend_from_slice(b", ");
            list.extend_from_slice(value);
        }
        None => *list = Some(value.to_vec()),
    }
}
