//! Writes mutants into the source, each behind its switch.
//!
//! All changes are insertions around an expression, so nested ones need no care: the text between them stays, with what was inserted
//! into it. What a mutant executes is on lines of its own, so that an error of the compiler names the mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use proc_macro2::LineColumn;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr};

use crate::list::{Genre, Mutant};
use crate::removals::{FIRST_REMOVAL, REMOVALS, Removal};

/// The lines of each file that only one mutant executes: path, first and last line, number.
pub type Places = Vec<(String, usize, usize, usize)>;

/// The source before any change, by path.
pub fn originals(tree: &Path, mutants: &[Mutant]) -> io::Result<BTreeMap<String, String>> {
    let removals = REMOVALS.iter().map(|removal| removal.file.to_owned());
    let files: BTreeSet<_> = mutants.iter().map(|mutant| mutant.file.clone()).chain(removals).collect();
    files.into_iter().map(|file| Ok((file.clone(), fs::read_to_string(tree.join(&file))?))).collect()
}

/// Writes every file anew with these mutants. What cannot be written as a choice (`a && let …`) is unviable.
pub fn write(
    tree: &Path,
    originals: &BTreeMap<String, String>,
    mutants: &[&Mutant],
    unviable: &mut BTreeSet<usize>,
) -> Result<Places, Box<dyn std::error::Error>> {
    let mut places = vec![];
    for (file, source) in originals {
        let mut writer = Writer { source, lines: line_starts(source), mutants: BTreeMap::new(), inserts: vec![] };
        for mutant in mutants.iter().filter(|mutant| mutant.file == *file && !unviable.contains(&mutant.id)) {
            let start = mutant.start();
            let at = writer.offset(LineColumn { line: start.line, column: start.column - 1 });
            writer.mutants.entry((at, kind(mutant.genre))).or_default().push((mutant.id, mutant.replacement.clone()));
        }
        writer.visit_file(&syn::parse_file(source)?);
        for (number, removal) in (0..).zip(REMOVALS).filter(|(_, removal)| removal.file == *file) {
            writer.remove(number, removal)?;
        }
        unviable.extend(writer.mutants.values().flatten().map(|(id, _)| *id));
        let text = writer.finish();
        places.extend(placed(file, &text));
        fs::write(tree.join(file), text)?;
    }
    Ok(places)
}

struct Writer<'a> {
    source: &'a str,
    lines: Vec<usize>,
    /// Those not yet written, by offset and kind.
    mutants: BTreeMap<(usize, u8), Vec<(usize, String)>>,
    /// Offset, order among those at it, text.
    inserts: Vec<(usize, (u8, i64), String)>,
}

impl Writer<'_> {
    fn offset(&self, position: LineColumn) -> usize {
        let start = self.lines[position.line - 1];
        let line = &self.source[start..];
        start + line.char_indices().nth(position.column).map_or(line.len(), |(offset, _)| offset)
    }

    fn range(&self, node: &impl Spanned) -> (usize, usize) {
        let span = node.span();
        (self.offset(span.start()), self.offset(span.end()))
    }

    fn text(&self, node: &impl Spanned) -> String {
        let (start, end) = self.range(node);
        self.source[start..end].to_owned()
    }

    fn take(&mut self, at: usize, genre: Genre) -> Vec<(usize, String)> {
        self.mutants.remove(&(at, kind(genre))).unwrap_or_default()
    }

    /// Makes a choice of an expression. Of choices that begin or end at one place, the longer is around the shorter.
    fn choose(&mut self, (start, end): (usize, usize), before: &str, choices: Vec<(usize, String)>) {
        if choices.is_empty() {
            return;
        }
        let mut text = format!("{before}(");
        for (id, code) in choices {
            let _ = write!(text, "if crate::is_mutant({id}) {{\n/*M{id}*/\n{code}\n/*E{id}*/\n}} else ");
        }
        text.push_str("{ ");
        let length = i64::try_from(end - start).unwrap_or(i64::MAX);
        self.inserts.push((start, (1, -length), text));
        self.inserts.push((end, (0, length), " })".to_owned()));
    }

    /// The choice to leave a line out.
    fn remove(&mut self, number: usize, removal: &Removal) -> Result<(), String> {
        let mut found = self.source.match_indices(removal.code);
        let (Some((at, code)), None) = (found.next(), found.next()) else {
            return Err(format!("{} does not have `{}` once", removal.file, removal.code));
        };
        self.choose((at, at + code.len()), "", vec![(FIRST_REMOVAL + number, removal.without.to_owned())]);
        Ok(())
    }

    fn function(&mut self, block: &Block) {
        let Some(first) = block.stmts.first() else { return };
        let at = self.range(first).0;
        let mut text = String::new();
        for (id, code) in self.take(at, Genre::FnValue) {
            let _ = write!(text, "if crate::is_mutant({id}) {{\n/*M{id}*/\nreturn {code};\n/*E{id}*/\n}}\n");
        }
        self.inserts.push((at, (1, i64::MIN), text));
    }

    fn finish(mut self) -> String {
        self.inserts.sort_by_key(|(at, order, _)| (*at, *order));
        let mut text = String::new();
        let mut done = 0;
        for (at, _, insert) in self.inserts {
            text.push_str(&self.source[done..at]);
            text.push_str(&insert);
            done = at;
        }
        text.push_str(&self.source[done..]);
        text
    }
}

impl<'ast> Visit<'ast> for Writer<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !has_let(&binary.left) && !has_let(&binary.right) {
            let (start, end) = self.range(binary);
            let (from, to) = self.range(&binary.op);
            let choices = self.take(from, Genre::BinaryOperator);
            let mutated = |operator: &str| format!("{}{operator}{}", &self.source[start..from], &self.source[to..end]);
            let choices = choices.into_iter().map(|(id, operator)| (id, mutated(&operator))).collect();
            self.choose((start, end), "", choices);
        }
        syn::visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let choices = self.take(self.range(&unary.op).0, Genre::UnaryOperator);
        let operand = self.text(&unary.expr);
        self.choose(self.range(unary), "", choices.into_iter().map(|(id, _)| (id, operand.clone())).collect());
        syn::visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = arm.guard.as_ref().filter(|(_, guard)| !has_let(guard)) {
            let choices = self.take(self.range(guard).0, Genre::MatchArmGuard);
            self.choose(self.range(guard), "", choices);
        }
        syn::visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, item: &'ast syn::ExprStruct) {
        if let Some(rest) = &item.rest {
            for field in &item.fields {
                let syn::Member::Named(name) = &field.member else { continue };
                let base = format!("{{ let base: {} = {}; base.{name} }}", self.text(&item.path), self.text(&**rest));
                let choices = self.take(self.range(field).0, Genre::StructField);
                let before = if field.colon_token.is_some() { String::new() } else { format!("{name}: ") };
                self.choose(self.range(&field.expr), &before, choices.into_iter().map(|(id, _)| (id, base.clone())).collect());
            }
        }
        syn::visit::visit_expr_struct(self, item);
    }
}

/// Whether a condition binds names, at its own level: then it is no expression.
fn has_let(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

fn kind(genre: Genre) -> u8 {
    genre as u8
}

fn line_starts(source: &str) -> Vec<usize> {
    std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// Where each mutant came to lie.
fn placed(file: &str, text: &str) -> Places {
    let mut begun: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places = vec![];
    for (line, content) in (1..).zip(text.lines()) {
        let id = |mark: &str| content.strip_prefix(mark)?.strip_suffix("*/")?.parse::<usize>().ok();
        if let Some(id) = id("/*M") {
            begun.insert(id, line);
        } else if let Some((id, first)) = id("/*E").and_then(|id| Some((id, begun.remove(&id)?))) {
            places.push((file.to_owned(), first, line, id));
        }
    }
    places
}
