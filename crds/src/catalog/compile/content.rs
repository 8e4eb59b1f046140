//! Content blocks: what `static` and `template` answer, and what prompts say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iri_string::types::UriStr;

use super::Compiler;
use crate::catalog::authored::{Annotations, ContentBlock, ContentType, Icon};
use crate::catalog::problem::Path;

impl Compiler<'_> {
    pub(super) fn block(&mut self, block: &ContentBlock, at: &Path) {
        let carried = match block.kind {
            ContentType::Text => block.text.is_some(),
            ContentType::Image | ContentType::Audio => block.data.is_some() && block.mime_type.is_some(),
            ContentType::Resource => block.resource.is_some(),
            ContentType::ResourceLink => block.uri.is_some() && block.name.is_some(),
        };
        if !carried {
            self.invalid(
                at,
                "a block must carry what its `type` needs: text → `text`; image, audio → `data` and `mimeType`; \
                 resource → `resource`; resource_link → `uri` and `name`",
            );
        }
        if let Some(data) = &block.data {
            self.base64(data, &at.field("data"));
        }
        if let Some(uri) = &block.uri {
            self.uri(uri, &at.field("uri"));
        }
        if let Some(resource) = &block.resource {
            self.uri(&resource.uri, &at.field("resource.uri"));
            if resource.text.is_some() == resource.blob.is_some() {
                self.invalid(&at.field("resource"), "set exactly one of `text` and `blob`");
            }
            if let Some(blob) = &resource.blob {
                self.base64(blob, &at.field("resource.blob"));
            }
        }
        if let Some(annotations) = &block.annotations {
            self.annotations(annotations, &at.field("annotations"));
        }
    }

    /// Checks Base64 and gives the number of bytes it holds.
    pub(super) fn base64(&mut self, text: &str, at: &Path) -> Option<u64> {
        match STANDARD.decode(text) {
            Ok(bytes) => Some(bytes.len() as u64),
            Err(error) => {
                self.invalid(at, format!("is not Base64 (RFC 4648, section 4): {error}"));
                None
            }
        }
    }

    /// A URI with its scheme; `{x}` in one of a template is substituted later and leaves no trace here.
    pub(super) fn uri(&mut self, uri: &str, at: &Path) {
        let literal: String = uri.chars().filter(|c| !matches!(c, '{' | '}')).collect();
        if UriStr::new(&literal).is_err() {
            self.invalid(at, format!("{uri:?} is not a URI with a scheme (RFC 3986), for example 'docs://handbook'"));
        }
    }

    pub(super) fn icons(&mut self, icons: &[Icon], at: &Path) {
        for (index, icon) in icons.iter().enumerate() {
            let safe = ["https://", "data:"].iter().any(|scheme| icon.src.starts_with(scheme));
            if !safe || UriStr::new(&icon.src).is_err() {
                self.invalid(&at.field("icons").index(index).field("src"), "must be an https: or data: URI");
            }
        }
    }

    pub(super) fn annotations(&mut self, annotations: &Annotations, at: &Path) {
        if let Some(priority) = &annotations.priority
            && !priority.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number))
        {
            self.invalid(&at.field("priority"), "must be a number from 0 to 1, quoted, for example \"0.8\"");
        }
    }
}
