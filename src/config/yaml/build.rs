use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, options};

use super::expand::expand;
use super::mask::{Stretch, is_secret, masked_lines};
use super::tree::{Entry, Kind, Node, Scalar, Size};
use crate::location::SourceText;
use crate::{Code, Diagnostic, Diagnostics, Environment, Location, format_size};

/// Levels of lists and maps, those inside aliases counted: what walks the tree does so by recursion.
const DEPTH_MAX: usize = 64;

/// Nodes and texts of a file, each copy that an anchor or an alias makes counted: a few lines of aliases of aliases expand
/// without end, and a list of `[]` has fifty times the bytes of its text.
const SIZE_MAX: Size = Size { nodes: 250_000, text_bytes: 8 << 20 };

/// What a file holds.
pub(crate) enum Document {
    Tree(Node),
    /// Nothing, or only comments.
    Empty(Location),
    /// It has been said why.
    Failed,
}

/// Reads a file. Variables are put into its scalars.
pub(crate) fn parse(name: &str, bytes: &[u8], environment: &dyn Environment, found: &mut Diagnostics) -> Document {
    read(name, bytes, Some(environment), found)
}

/// Reads a text into whose scalars no variables are put.
pub(crate) fn parse_literal(name: &str, bytes: &[u8], found: &mut Diagnostics) -> Document {
    read(name, bytes, None, found)
}

fn read(name: &str, bytes: &[u8], environment: Option<&dyn Environment>, found: &mut Diagnostics) -> Document {
    let source = Arc::new(SourceText::new(name));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            found.push(not_utf8(&source, bytes, error.valid_up_to()));
            return Document::Failed;
        }
    };
    let mut builder = Builder::new(&source, environment, found);
    let stopped = builder.run(text).err();
    let failed = stopped.is_some();
    // What comes after the error is in no stretch.
    let in_secret = failed && builder.stack.iter().any(Frame::holds_secrets);
    let mut lines_max = usize::MAX;
    if let Some(Stop::Syntax(error)) = stopped {
        lines_max = error.marker().line();
        builder.found.push(syntax(&source, text, &error));
    }
    let Builder { stretches, root, .. } = builder;
    if !in_secret {
        let mut lines = masked_lines(text, &stretches, failed);
        lines.truncate(lines_max);
        source.show(lines);
    }
    match root {
        _ if failed => Document::Failed,
        Some(node) if !node.is_null() => Document::Tree(node),
        _ => Document::Empty(Location::new(&source, 1, 1)),
    }
}

enum Stop {
    /// The diagnostic is there.
    Said,
    Syntax(ScanError),
}

struct Builder<'a> {
    source: &'a Arc<SourceText>,
    environment: Option<&'a dyn Environment>,
    found: &'a mut Diagnostics,
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    /// Of all that was built, and never more than allowed.
    size: Size,
    anchors: HashMap<usize, Node>,
    stretches: Vec<Stretch>,
}

/// A list or map that is being read.
struct Frame {
    at: Location,
    anchor: usize,
    content: Content,
    /// The key that it stands under; a list's items stand under the list's.
    name: Option<String>,
    /// Whether all of it may be a secret.
    secret: bool,
}

enum Content {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, Location)> },
}

impl Frame {
    /// Whether some value in it may be a secret, read or not.
    fn holds_secrets(&self) -> bool {
        self.next_is_secret() || self.secret || matches!(self.name.as_deref(), Some("sasl" | "librdkafka"))
    }

    /// Whether the value that comes next may be a secret.
    fn next_is_secret(&self) -> bool {
        match &self.content {
            Content::Map { key: Some((key, _)), .. } => {
                let names_a_place = self.secret && matches!(key.as_str(), "env" | "file");
                !names_a_place && (self.secret || is_secret(key, self.name.as_deref()))
            }
            Content::Map { key: None, .. } => false,
            Content::Seq(_) => self.secret,
        }
    }
}

impl<'a> Builder<'a> {
    fn new(source: &'a Arc<SourceText>, environment: Option<&'a dyn Environment>, found: &'a mut Diagnostics) -> Self {
        Self {
            source,
            environment,
            found,
            stack: Vec::new(),
            root: None,
            documents: 0,
            size: Size::default(),
            anchors: HashMap::new(),
            stretches: Vec::new(),
        }
    }

    fn run(&mut self, text: &str) -> Result<(), Stop> {
        let options = options! {
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
            disallow_directives: true,
            emit_comments: false,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(Stop::Syntax)?;
            self.event(event, span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = self.place(span.start);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.stop(
                        &at,
                        Code::YamlUnsupported,
                        "a second document in one file",
                        "one file holds one document",
                    );
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(&at, tag.is_some());
                self.count(&at, Size { nodes: 1, text_bytes: text.len() })?;
                if self.at_key() {
                    self.key(text.into_owned(), at);
                } else {
                    let node = self.scalar(text.into_owned(), style, span);
                    self.finish(node, anchor)?;
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(&at, tag.is_some());
                self.open(at, anchor, Content::Seq(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(&at, tag.is_some());
                let content = Content::Map { entries: Vec::new(), seen: HashSet::new(), key: None };
                self.open(at, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => self.alias(id, at)?,
            _ => {}
        }
        Ok(())
    }

    fn place(&self, marker: Marker) -> Location {
        Location::new(self.source, marker.line(), marker.col() + 1)
    }

    fn say(&mut self, at: &Location, code: Code, message: &str, help: &str) {
        self.found.push(Diagnostic::new(at, code, message).help(help));
    }

    fn stop(&mut self, at: &Location, code: Code, message: &str, help: &str) -> Result<(), Stop> {
        self.say(at, code, message, help);
        Err(Stop::Said)
    }

    fn refuse_tag(&mut self, at: &Location, tagged: bool) {
        if tagged {
            self.say(
                at,
                Code::YamlUnsupported,
                "a tag (`!...`) has no meaning here",
                "remove it; quotes make a value text",
            );
        }
    }

    fn at_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: String, at: Location) {
        if text == "<<" {
            let help = "write the keys out, or use an alias for a whole value";
            self.say(&at, Code::YamlUnsupported, "merge keys (`<<`) are not a part of YAML 1.2", help);
        }
        let Some(Frame { content: Content::Map { seen, key, .. }, .. }) = self.stack.last_mut() else { return };
        let fresh = seen.insert(text.clone());
        *key = Some((text.clone(), at.clone()));
        if !fresh {
            self.say(
                &at,
                Code::KeyDuplicate,
                &format!("the key `{text}` is already in this map"),
                "remove one of the two",
            );
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, span: Span) -> Node {
        if self.stack.last().is_some_and(Frame::next_is_secret) {
            self.stretches.push(((span.start.line(), span.start.col()), (span.end.line(), span.end.col())));
        }
        let at = self.place(span.start);
        let plain = style == ScalarStyle::Plain;
        let expanded = self.environment.map_or(Ok(None), |environment| expand(&text, environment));
        let kind = match expanded {
            Ok(None) => Kind::Scalar(Scalar { text, plain, typed: None }),
            Ok(Some(expanded)) => Kind::Scalar(Scalar { text: expanded, plain, typed: Some(text) }),
            Err(errors) => {
                // Only on one line do the characters of the text stand where they are counted.
                let one_line = span.start.line() == span.end.line();
                let quote = usize::from(matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted));
                for error in errors {
                    let shift = if one_line { error.offset + quote } else { 0 };
                    let place = Location::new(self.source, at.line, at.col + shift);
                    self.found.push(Diagnostic::new(&place, error.code, error.message).help(error.help));
                }
                Kind::Broken
            }
        };
        Node { kind, at }
    }

    fn open(&mut self, at: Location, anchor: usize, content: Content) -> Result<(), Stop> {
        if self.at_key() {
            let help = "a key is text, such as `name:`; `{{...}}` needs quotes";
            return self.stop(&at, Code::YamlUnsupported, "a key that is a map or a list", help);
        }
        if self.stack.len() >= DEPTH_MAX {
            return self.too_deep(&at);
        }
        self.count(&at, Size { nodes: 1, text_bytes: 0 })?;
        let (name, secret) = match self.stack.last() {
            Some(frame @ Frame { content: Content::Map { key, .. }, .. }) => {
                let name = key.as_ref().map(|(key, _)| key.clone());
                // What is secret in these two is decided key by key.
                let by_key = matches!(name.as_deref(), Some("sasl" | "librdkafka"));
                (name, !by_key && frame.next_is_secret())
            }
            Some(Frame { name, secret, .. }) => (name.clone(), *secret),
            None => (None, false),
        };
        self.stack.push(Frame { at, anchor, content, name, secret });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let kind = match frame.content {
            Content::Seq(items) => Kind::Seq(items),
            Content::Map { entries, .. } => Kind::Map(entries),
        };
        self.finish(Node { kind, at: frame.at }, frame.anchor)
    }

    fn alias(&mut self, id: usize, at: Location) -> Result<(), Stop> {
        if self.at_key() {
            return self.stop(&at, Code::YamlUnsupported, "a key that is an alias", "a key is text, such as `name:`");
        }
        let Some(node) = self.anchors.get(&id) else {
            return self.stop(
                &at,
                Code::YamlUnsupported,
                "an alias inside of what it stands for",
                "write the value out",
            );
        };
        let (height, size) = (node.height(), node.size());
        if self.stack.len() + height > DEPTH_MAX {
            return self.too_deep(&at);
        }
        self.count(&at, size)?;
        match self.anchors.get(&id).cloned() {
            Some(node) => self.finish(node, 0),
            None => Ok(()),
        }
    }

    /// Before it is built.
    fn count(&mut self, at: &Location, more: Size) -> Result<(), Stop> {
        let mut size = self.size;
        size.add(more);
        if size.nodes > SIZE_MAX.nodes || size.text_bytes > SIZE_MAX.text_bytes {
            let message = format!(
                "more than {} values or {} of text, with all that aliases stand for",
                SIZE_MAX.nodes,
                format_size(SIZE_MAX.text_bytes as u64)
            );
            let help = "write aliases out; a large table of a plugin can be JSON: `{ $file: table.json }`";
            return self.stop(at, Code::FileTooLarge, &message, help);
        }
        self.size = size;
        Ok(())
    }

    fn too_deep(&mut self, at: &Location) -> Result<(), Stop> {
        let message = format!("lists and maps nested more than {DEPTH_MAX} levels deep");
        self.stop(at, Code::YamlUnsupported, &message, "no setting needs that many")
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            // A copy is kept for each anchor, and anchors nest.
            self.count(&node.at, node.size())?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            Some(Content::Seq(items)) => items.push(node),
            Some(Content::Map { entries, key, .. }) => {
                if let Some((key, key_at)) = key.take() {
                    entries.push(Entry { key, key_at, value: node });
                }
            }
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn not_utf8(source: &Arc<SourceText>, bytes: &[u8], valid: usize) -> Diagnostic {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default()).into_owned();
    let line = before.matches('\n').count() + 1;
    let col = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let byte = bytes.get(valid).copied().unwrap_or_default();
    let at = Location::new(source, line, col);
    Diagnostic::new(&at, Code::FileEncoding, format!("the byte 0x{byte:02x} is not UTF-8"))
        .help("save the file as UTF-8")
}

fn syntax(source: &Arc<SourceText>, text: &str, error: &ScanError) -> Diagnostic {
    let marker = error.marker();
    let at = Location::new(source, marker.line(), marker.col() + 1);
    let diagnostic = Diagnostic::new(&at, Code::YamlSyntax, error.info());
    let from = marker.line().saturating_sub(1);
    let line = text.lines().nth(from).unwrap_or_default();
    // Text goes on in the line below, so an error that a tab makes there is told of the line above.
    let tab_first = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let indented_by_tab = text.lines().skip(from).take(2).any(tab_first);
    if indented_by_tab {
        return diagnostic.help("indent with spaces: YAML allows no tabs there");
    }
    let variable = line.chars().skip(marker.col().saturating_sub(2)).take(3).collect::<String>().contains("${");
    if variable {
        return diagnostic.help("between braces or brackets a variable needs quotes: \"${NAME}\"");
    }
    if line.contains(": ") && line.matches(": ").count() > 1 && !line.contains('{') {
        return diagnostic.help("a value that holds `: ` needs quotes");
    }
    diagnostic
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NoEnvironment;

    fn errors(text: &[u8]) -> Vec<(&'static str, usize, usize)> {
        let mut found = Diagnostics::new();
        parse("f.yaml", text, &[("A", "1")], &mut found);
        found.iter().map(|d| (d.code.as_str(), d.at.line, d.at.col)).collect()
    }

    #[test]
    fn what_is_no_yaml_is_refused_at_its_place() {
        assert_eq!(errors(b"a: [1, 2\nb: 3\n").first().map(|error| error.0), Some("yaml.syntax"));
        assert_eq!(errors(b"a:\n\tb: 3\n").first().map(|error| (error.0, error.1)), Some(("yaml.syntax", 2)));
        assert_eq!(errors("é: 1\nb: \"ü".as_bytes().split_last().unwrap().1), [("file.encoding", 2, 5)]);
    }

    #[test]
    fn a_tab_as_indentation_says_so() {
        let mut found = Diagnostics::new();
        parse("f.yaml", b"a:\n\tb: 3\n", &NoEnvironment, &mut found);
        assert!(found.render(false).contains("help: indent with spaces"), "{found}");
    }

    #[test]
    fn a_variable_in_a_flow_map_says_that_it_needs_quotes() {
        let mut found = Diagnostics::new();
        parse("f.yaml", b"a: { b: ${A} }\n", &NoEnvironment, &mut found);
        assert!(found.render(false).contains("a variable needs quotes"), "{found}");
    }

    #[test]
    fn every_duplicate_key_tag_and_missing_variable_is_found() {
        let text = b"a: 1\nb: !x 2\na: 3\nc: \"${A}-${B}\"\nd: ${C}\n";
        assert_eq!(
            errors(text),
            [("yaml.unsupported", 2, 7), ("key.duplicate", 3, 1), ("env.missing", 4, 10), ("env.missing", 5, 4)]
        );
    }

    #[test]
    fn what_a_configuration_does_not_need_is_refused() {
        assert_eq!(errors(b"a: 1\n---\nb: 2\n")[0].0, "yaml.unsupported");
        assert_eq!(errors(b"{a: 1}: 2\n")[0].0, "yaml.unsupported");
        assert_eq!(errors(b"<<: {a: 1}\n")[0].0, "yaml.unsupported");
        assert_eq!(errors(b"a: &x [*x]\n")[0].0, "yaml.unsupported");
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(errors(deep.as_bytes()).len(), 1);
        let wide = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let items = format!("*a{},", n - 1).repeat(10);
            text + &format!("a{n}: &a{n} [{items}]\n")
        });
        assert_eq!(errors(wide.as_bytes())[0].0, "file.too_large");
        let tall = (1..200).fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [*a{}]\n", n - 1));
        assert_eq!(errors(tall.as_bytes())[0].0, "yaml.unsupported");
    }

    /// What is held of a text when it has been read, or refused.
    fn held(text: &str) -> Size {
        let (source, mut found) = (Arc::new(SourceText::new("f.yaml")), Diagnostics::new());
        let mut builder = Builder::new(&source, None, &mut found);
        drop(builder.run(text));
        let frames = builder.stack.iter().flat_map(|frame| match &frame.content {
            Content::Seq(items) => items.iter().map(Node::size).collect::<Vec<_>>(),
            Content::Map { entries, .. } => entries.iter().map(|entry| entry.value.size()).collect(),
        });
        let mut held = Size::default();
        builder.anchors.values().chain(&builder.root).map(Node::size).chain(frames).for_each(|size| held.add(size));
        assert!(!found.is_empty(), "it is not refused");
        held
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_built() {
        let bomb = (1..7).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            text + &format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9))
        });
        assert!(bomb.len() < 400, "{}", bomb.len());
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(200_000));
        let wide = format!("a: [{}]\n", "[],".repeat(340_000));
        for text in [bomb, long, wide] {
            let held = held(&text);
            assert!(held.nodes <= SIZE_MAX.nodes && held.text_bytes <= SIZE_MAX.text_bytes, "{held:?}");
        }
        assert!(SIZE_MAX.nodes * size_of::<Entry>() <= 40 << 20, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_secret_is_in_no_line_that_is_shown() {
        for text in [
            "sasl: { mechanism: PLAIN, password: hunter2, x: ${NONE} }\n",
            "a: { passwd: [hunter2, \"hunter2\"], x: ${NONE} }\n",
            "librdkafka: { a.b: hunter2, x: ${NONE}hunter2 }\n",
            "sasl:\n  password:\n    \"hunter2\n",
            "password: &p hunter2 # ${X}\nx: {y: *p, z: ${NONE}}\n",
            "x: {y: ${NONE}, password: \"hunter2\n  hunter2\"}\n",
            "sasl: hunter2 ${NONE}\n",
            "- password: hunter2 ]\n- ]",
            "a: { password: \"${NONE}\", b: \"${NONE}\", token: hunter2 }\n",
        ] {
            let mut found = Diagnostics::new();
            parse("f.yaml", text.as_bytes(), &NoEnvironment, &mut found);
            assert!(!found.is_empty(), "{text}");
            assert!(!found.render(false).contains("hunter2"), "{text}\n{found}");
            let lines: Vec<_> = (1..4).filter_map(|line| found.iter().next()?.at.line_of_file(line)).collect();
            assert!(!lines.join("\n").contains("hunter2"), "{text}\n{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[-a-c:{}\\[\\]&*!|>'\"$#, \n\t]{0,80}") {
            errors(&bytes);
            errors(text.as_bytes());
        }
    }
}
