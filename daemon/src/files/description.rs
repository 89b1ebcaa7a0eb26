//! What answers say of a file by the rules of its share. It is found out when the file is opened, and kept with it.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use crate::config::{CodingChoice, Share};
use crate::protocol::http1::response::FieldBlock;
use crate::protocol::media_type::content_type;
use crate::protocol::name::Name;

/// The field that keeps browsers from guessing another media type.
const NOSNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");

/// `Cache-Control` of a file that not everybody sees: no cache that others share may keep it.
const HIDDEN_CACHE_CONTROL: (&str, &str) = ("Cache-Control", "private, no-cache");

/// What answers say of a file besides what it is itself.
#[derive(Debug)]
pub struct Description {
    /// Its media type.
    pub media_type: Cow<'static, str>,
    /// The fields that its share gives it, for every answer that has it or says that it is unchanged.
    pub fields: FieldBlock,
    /// Whether only those see it who may write.
    pub is_hidden: bool,
    /// The coding that its bytes have, where they stand for another file.
    pub coding: Option<CodingChoice>,
    /// The files that may stand for it, where its share has such.
    pub siblings: Option<Box<Siblings>>,
}

/// The files beside a file that may have its content in another coding.
#[derive(Debug)]
pub struct Siblings {
    share: Arc<Share>,
    name: Name,
    /// The codings of which there was none when it was last looked for, as bits.
    absent: Cell<u8>,
}

impl Description {
    /// Describes the file of this share that has this whole name.
    pub fn of(share: &Arc<Share>, name: &Name) -> Description {
        let within = share.path.within(name.as_bytes()).unwrap_or_default();
        let is_hidden = share.hidden.cover(within);
        let media_type = share.media_type(within).map(|given| Cow::Owned(given.to_owned()));
        let codings = codings_of(share);
        let is_coded = codings.clone().any(|coding| name.as_bytes().ends_with(coding.suffix().as_bytes()));
        let has_siblings = !is_coded && codings.count() > 0;
        let siblings = has_siblings.then(|| {
            Box::new(Siblings { share: Arc::clone(share), name: name.clone(), absent: Cell::new(0) })
        });
        Description {
            media_type: media_type.unwrap_or_else(|| content_type(name.as_bytes())),
            fields: fields(share, within, is_hidden, has_siblings),
            is_hidden,
            coding: None,
            siblings,
        }
    }

    /// Describes a file whose bytes stand for the file of this name, in a coding.
    pub fn of_coded(share: &Arc<Share>, name: &Name, coding: CodingChoice) -> Description {
        Description { coding: Some(coding), siblings: None, ..Description::of(share, name) }
    }

    /// Whether a request has to be looked at more closely before this file answers it.
    pub fn depends_on_request(&self) -> bool {
        self.is_hidden || self.siblings.is_some()
    }
}

fn fields(share: &Share, within: &[u8], is_hidden: bool, has_siblings: bool) -> FieldBlock {
    let given = share.fields(within);
    FieldBlock::of(|head| {
        let is_given = |name: &str| given.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !is_given(NOSNIFF.0) {
            head.field(NOSNIFF.0, NOSNIFF.1);
        }
        if is_hidden {
            head.field(HIDDEN_CACHE_CONTROL.0, HIDDEN_CACHE_CONTROL.1);
        }
        let is_replaced = |name: &str| is_hidden && name.eq_ignore_ascii_case(HIDDEN_CACHE_CONTROL.0);
        for (name, value) in given.iter().filter(|(name, _)| !is_replaced(name)) {
            head.field(name, value);
        }
        match (is_index(share, within), has_siblings) {
            (true, true) => _ = head.field("Vary", "Accept, Accept-Encoding"),
            (true, false) => _ = head.field("Vary", "Accept"),
            (false, true) => _ = head.field("Vary", "Accept-Encoding"),
            (false, false) => {}
        }
    })
}

/// Whether a file may answer for its directory, whose listing others get as JSON.
fn is_index(share: &Share, within: &[u8]) -> bool {
    let own = within.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    share.settings.listing && share.settings.index.iter().any(|index| index.as_bytes() == own)
}

fn codings_of(share: &Share) -> impl Iterator<Item = CodingChoice> + Clone {
    share.settings.precompressed.iter().filter_map(|suffix| CodingChoice::of_suffix(suffix))
}

impl Siblings {
    /// The name of the file for which they may stand.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The name of the sibling in a coding.
    pub fn name_in(&self, coding: CodingChoice) -> Name {
        self.name.with_end(coding.suffix())
    }

    /// The codings of its share, the one that is preferred first.
    pub fn codings(&self) -> Vec<CodingChoice> {
        codings_of(&self.share).collect()
    }

    /// Whether there was none in this coding when it was looked for.
    pub fn is_absent(&self, coding: CodingChoice) -> bool {
        self.absent.get() & bit(coding) != 0
    }

    /// Notes that there is none in this coding.
    pub fn note_absent(&self, coding: CodingChoice) {
        self.absent.set(self.absent.get() | bit(coding));
    }
}

fn bit(coding: CodingChoice) -> u8 {
    match coding {
        CodingChoice::Zst => 1,
        CodingChoice::Br => 2,
        CodingChoice::Gz => 4,
    }
}

/// Makes the entity tag of a coded file another than that of any file as it is: caches tell the two apart by it
/// (RFC 9110 8.8.3.3).
pub(super) fn tag_in(etag: &str, coding: Option<CodingChoice>) -> String {
    match (coding, etag.strip_suffix('"')) {
        (Some(coding), Some(tag)) => format!("{tag}-{}\"", coding.token()),
        _ => etag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{CodingChoice, Description, tag_in};
    use crate::config::{HeaderSettings, Live, Settings, Shares};
    use crate::protocol::name::Name;

    fn shares(settings: Settings) -> Shares {
        let settings = Settings { root: Some("/srv".into()), ..settings };
        Live::new(settings).unwrap().shares
    }

    fn of(shares: &Shares, path: &str) -> Description {
        let name = Name::parse(path.as_bytes()).unwrap();
        Description::of(shares.find(name.as_bytes()).unwrap().0, &name)
    }

    fn described(shares: &Shares, path: &str) -> (String, String) {
        let description = of(shares, path);
        let fields = String::from_utf8(description.fields.as_bytes().to_vec()).unwrap();
        (description.media_type.into_owned(), fields)
    }

    #[test]
    fn a_file_has_the_type_and_the_fields_of_its_share() {
        let rule = |pattern: &str, name: &str, value: &str| HeaderSettings {
            r#match: Some(pattern.to_owned()),
            set: [(name.to_owned(), value.to_owned())].into(),
        };
        let shares = shares(Settings {
            types: [("wat".to_owned(), "text/x-wat".to_owned())].into(),
            headers: vec![
                rule("*.js", "Cache-Control", "immutable"),
                rule("/raw/*", "X-Content-Type-Options", "x"),
            ],
            ..Settings::default()
        });
        let nosniff = "X-Content-Type-Options: nosniff\r\n";
        assert_eq!(described(&shares, "/a.wat"), ("text/x-wat".to_owned(), nosniff.to_owned()));
        assert_eq!(described(&shares, "/a.js").1, format!("{nosniff}Cache-Control: immutable\r\n"));
        assert_eq!(described(&shares, "/raw/a").1, "X-Content-Type-Options: x\r\n");
    }

    #[test]
    fn a_hidden_file_is_for_no_shared_cache() {
        let shares = shares(Settings { cache_control: Some("public".to_owned()), ..Settings::default() });
        assert!(described(&shares, "/.x").1.ends_with("Cache-Control: private, no-cache\r\n"));
        assert!(described(&shares, "/x").1.ends_with("Cache-Control: public\r\n"));
        assert!(of(&shares, "/a/.git/config").is_hidden && of(&shares, "/.x").depends_on_request());
        assert!(!of(&shares, "/.well-known/x").is_hidden && !of(&shares, "/x").depends_on_request());
    }

    #[test]
    fn all_files_of_a_share_with_codings_vary_but_those_that_are_coded() {
        let codings = ["zst", "gz"].map(str::to_owned).to_vec();
        let shares = shares(Settings { precompressed: codings, ..Settings::default() });
        assert!(described(&shares, "/a.js").1.ends_with("Vary: Accept-Encoding\r\n"));
        assert!(!described(&shares, "/a.js.gz").1.contains("Vary"));
        assert!(described(&shares, "/a/index.html").1.ends_with("Vary: Accept-Encoding\r\n"));
        let siblings = of(&shares, "/a.js").siblings.unwrap();
        assert_eq!(siblings.codings(), [CodingChoice::Zst, CodingChoice::Gz]);
        assert_eq!(siblings.name_in(CodingChoice::Gz).as_bytes(), b"a.js.gz");
        siblings.note_absent(CodingChoice::Gz);
        assert!(siblings.is_absent(CodingChoice::Gz) && !siblings.is_absent(CodingChoice::Zst));
    }

    #[test]
    fn an_index_varies_where_its_directory_is_listed_as_json() {
        let shares = shares(Settings { listing: true, ..Settings::default() });
        assert!(described(&shares, "/a/index.html").1.ends_with("Vary: Accept\r\n"));
        assert!(!described(&shares, "/a/index.htm").1.contains("Vary"));
    }

    #[test]
    fn a_coded_file_has_a_tag_of_its_own() {
        assert_eq!(tag_in("\"a\"", Some(CodingChoice::Gz)), "\"a-gzip\"");
        assert_eq!(tag_in("W/\"a\"", Some(CodingChoice::Zst)), "W/\"a-zstd\"");
        assert_eq!(tag_in("\"a\"", None), "\"a\"");
    }
}
