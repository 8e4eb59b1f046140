//! Resource templates, and completion.

use std::collections::{BTreeMap, BTreeSet};

use super::http::Arguments;
use super::{Backends, Compiler, Merged};
use crate::catalog::authored::{Completion, ResourceTemplate};
use crate::catalog::compiled::{CompiledResourceTemplate, Contents, ResourceTemplateDefinition};
use crate::catalog::problem::Path;
use crate::catalog::template::{TextTemplate, UriTemplate};

/// The most values an argument is completed with.
pub const MAX_COMPLETION_VALUES: usize = 1000;

impl Compiler<'_> {
    /// Adds a template to what was merged before.
    pub(super) fn resource_template(&mut self, template: &ResourceTemplate, backends: &Backends, at: &Path, merged: &mut Merged) {
        let problems = self.problems.len();
        let uri = UriTemplate::parse(&template.uri_template);
        match &uri {
            Ok(_) => self.uri(&template.uri_template, &at.field("uriTemplate")),
            Err(error) => self.invalid(&at.field("uriTemplate"), error.to_string()),
        }
        self.icons(&template.icons, at);
        if let Some(annotations) = &template.annotations {
            self.annotations(annotations, &at.field("annotations"));
        }
        // What a template says of its variables cannot be judged when it cannot be read.
        let names: Option<BTreeSet<&str>> = uri.as_ref().ok().map(|uri| uri.variables().collect());
        let arguments = names.as_ref().map_or(Arguments::Unknown, Arguments::Variables);
        let completions = self.variables(template, arguments, at);
        let contents = match (&template.template, &template.http) {
            (Some(contents), None) => {
                self.known(&TextTemplate::parse(&contents.text).variables(), arguments, &at.field("template.text"));
                Some(Contents::Text(contents.text.clone()))
            }
            (None, Some(http)) => self.http(http, arguments, backends, &at.field("http")).map(Contents::Http),
            (None, None) | (Some(_), Some(_)) => {
                self.invalid(at, "set exactly one of `template` and `http`: it is where the contents are");
                None
            }
        };
        if !merged.is_new("resource template", &template.uri_template) {
            return self.duplicate(at, "resource template", &template.uri_template);
        }
        if let Ok(uri) = &uri
            && let Some(other) = merged.template_ranks.insert(uri.rank(), template.uri_template.clone())
        {
            return self
                .invalid(&at.field("uriTemplate"), format!("matches the same URIs as {other}: one of them is never read"));
        }
        if let (Some(contents), true) = (contents, self.problems.len() == problems) {
            let definition = ResourceTemplateDefinition {
                uri_template: template.uri_template.clone(),
                name: template.name.clone(),
                title: template.title.clone(),
                description: template.description.clone(),
                mime_type: template.mime_type.clone(),
                icons: template.icons.clone(),
                annotations: template.annotations.clone(),
            };
            let compiled = CompiledResourceTemplate { definition, contents, completions };
            merged.resource_templates.insert(template.uri_template.clone(), compiled);
        }
    }

    /// What is said of the variables; the values offered for them.
    fn variables(&mut self, template: &ResourceTemplate, arguments: Arguments<'_>, at: &Path) -> BTreeMap<String, Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut completions = BTreeMap::new();
        for (index, variable) in template.variables.iter().enumerate() {
            let at = at.field("variables").named(index, &variable.name);
            if !seen.insert(variable.name.as_str()) {
                self.duplicate(&at, "variable", &variable.name);
            }
            self.known(&[&variable.name], arguments, &at.field("name"));
            if let Some(completion) = &variable.completion {
                self.completion(completion, &at.field("completion.values"));
                completions.insert(variable.name.clone(), completion.values.clone());
            }
        }
        completions
    }

    /// Checks values that are offered for an argument.
    pub(super) fn completion(&mut self, completion: &Completion, at: &Path) {
        let values = &completion.values;
        if values.is_empty() {
            self.invalid(at, "has no values: add some, or remove `completion`");
        }
        if values.len() > MAX_COMPLETION_VALUES {
            self.invalid(at, format!("has {} values; at most {MAX_COMPLETION_VALUES}", values.len()));
        }
        let mut seen = BTreeSet::new();
        for (index, value) in values.iter().enumerate() {
            if value.is_empty() {
                self.invalid(&at.index(index), "is empty: there would be nothing to offer");
            } else if !seen.insert(value) {
                self.invalid(&at.index(index), format!("{value:?} is there twice"));
            }
        }
    }
}
