//! Tokens to checked expressions.

use super::ExprError;
use super::ast::{Condition, Literal, Node, Range, Relation, Test};
use super::fields::{self, Field, Scope, Type};
use super::lex::{self, Spanned, Token};
use super::literal;

/// Bytes of an expression at most: rules come from files that anyone may have written.
const MAX_TEXT: usize = 16 << 10;

/// Brackets and `not` inside one another at most.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Spanned<'a>>,
    next: usize,
    depth: usize,
    /// The first field that needs packet bytes, the first that needs the whole journey.
    bytes: Option<(Spanned<'a>, &'static Field)>,
    journey: Option<&'static Field>,
}

/// Parses and checks `text`.
pub(super) fn parse(text: &str) -> Result<Node, ExprError> {
    if text.len() > MAX_TEXT {
        let what = format!("an expression has at most {MAX_TEXT} bytes, this has {}", text.len());
        return Err(ExprError::new("", 0, 0, what));
    }
    let tokens = lex::lex(text)?;
    let mut parser = Parser { text, tokens, next: 0, depth: 0, bytes: None, journey: None };
    if parser.tokens.is_empty() {
        let what = "an expression is expected, as tcp.port == 443".to_owned();
        return Err(ExprError::new(text, 0, 0, what));
    }
    let root = parser.any()?;
    if let (Some((at, bytes)), Some(journey)) = (parser.bytes, parser.journey) {
        let what = format!(
            "{} is not kept until {} is known, so one expression cannot ask for both",
            bytes.name, journey.name
        );
        return Err(parser.error(at, what));
    }
    match parser.peek() {
        None => Ok(root),
        Some(extra) => {
            let what = match extra.token {
                Token::Sign(")") => "this bracket closes nothing",
                _ => "`and` or `or` is expected before this",
            };
            Err(parser.error(extra, what))
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Spanned<'a>> {
        self.tokens.get(self.next).copied()
    }

    fn error(&self, at: Spanned<'_>, what: impl Into<String>) -> ExprError {
        ExprError::new(self.text, at.start, at.end, what.into())
    }

    fn error_at_end(&self, what: impl Into<String>) -> ExprError {
        ExprError::new(self.text, self.text.len(), self.text.len(), what.into())
    }

    /// Takes the next token if it is one of these signs or keywords.
    fn take(&mut self, forms: &[&str]) -> Option<Spanned<'a>> {
        let next = self.peek()?;
        let found = match next.token {
            Token::Sign(sign) => forms.contains(&sign),
            Token::Word(word) => forms.contains(&word),
            Token::Quoted(_) => false,
        };
        self.next += usize::from(found);
        found.then_some(next)
    }

    fn expect(&mut self, sign: &str, why: &str) -> Result<Spanned<'a>, ExprError> {
        if let Some(found) = self.take(&[sign]) {
            return Ok(found);
        }
        let what = format!("`{sign}` is expected {why}");
        Err(match self.peek() {
            Some(next) => self.error(next, what),
            None => self.error_at_end(what),
        })
    }

    /// `a or b or c`
    fn any(&mut self) -> Result<Node, ExprError> {
        let mut nodes = vec![self.all()?];
        while self.take(&["or", "||"]).is_some() {
            nodes.push(self.all()?);
        }
        Ok(join(nodes, Node::Or, |node| match node {
            Node::Or(inner) => Ok(inner),
            other => Err(other),
        }))
    }

    /// `a and b and c`
    fn all(&mut self) -> Result<Node, ExprError> {
        let mut nodes = vec![self.not()?];
        while self.take(&["and", "&&"]).is_some() {
            nodes.push(self.not()?);
        }
        Ok(join(nodes, Node::And, |node| match node {
            Node::And(inner) => Ok(inner),
            other => Err(other),
        }))
    }

    fn not(&mut self) -> Result<Node, ExprError> {
        let opening = self.peek();
        if self.depth >= MAX_DEPTH
            && let Some(opening) = opening
        {
            let what = format!("more than {MAX_DEPTH} brackets and negations inside one another");
            return Err(self.error(opening, what));
        }
        self.depth += 1;
        let node = if self.take(&["not", "!"]).is_some() {
            Node::Not(Box::new(self.not()?))
        } else if self.take(&["("]).is_some() {
            let inner = self.any()?;
            self.expect(")", "to close a bracket")?;
            inner
        } else {
            Node::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Test, ExprError> {
        let (field, named) = self.field()?;
        let mask = match self.take(&["&"]) {
            None => None,
            Some(sign) if field.kind != Type::Number => {
                let what = format!("`&` needs a number, {} is {}", field.name, field.kind.a());
                return Err(self.error(sign, what));
            }
            Some(_) => match self.literal(field, Type::Number)? {
                (Literal::Number(0), at) => {
                    return Err(self.error(at, "a mask of 0 never matches"));
                }
                (Literal::Number(mask), _) => Some(mask),
                (_, at) => return Err(self.error(at, "a number is expected")),
            },
        };
        let condition = self.condition(field, named, mask)?;
        Ok(Test { field, mask, condition })
    }

    fn field(&mut self) -> Result<(&'static Field, Spanned<'a>), ExprError> {
        let Some(next) = self.peek() else {
            return Err(self.error_at_end("a field is expected here, as tcp.port"));
        };
        let Token::Word(word) = next.token else {
            return Err(self.error(next, "a field is expected here, as tcp.port"));
        };
        match fields::find(word) {
            Some(field) => {
                self.next += 1;
                if field.kind == Type::Bytes && self.bytes.is_none() {
                    self.bytes = Some((next, field));
                }
                if field.scope == Scope::Journey && self.journey.is_none() {
                    self.journey = Some(field);
                }
                Ok((field, next))
            }
            None if word.starts_with(|c: char| c.is_ascii_digit() || c == ':') => {
                Err(self.error(next, "the field comes first, as in tcp.port == 443"))
            }
            None => {
                let nearest = fields::nearest(word);
                let what = format!("there is no field {word}; the nearest is {nearest}");
                Err(self.error(next, what))
            }
        }
    }

    fn condition(
        &mut self,
        field: &'static Field,
        named: Spanned<'a>,
        mask: Option<u64>,
    ) -> Result<Condition, ExprError> {
        const RELATIONS: [(&[&str], Relation); 6] = [
            (&["==", "eq"], Relation::Eq),
            (&["!=", "ne"], Relation::Ne),
            (&["<=", "le"], Relation::Le),
            (&["<", "lt"], Relation::Lt),
            (&[">=", "ge"], Relation::Ge),
            (&[">", "gt"], Relation::Gt),
        ];
        if let Some(sign) = self.take(&["="]) {
            return Err(self.error(sign, "equality is written =="));
        }
        if let Some(word) = self.take(&["matches", "~"]) {
            return Err(self.error(word, "there are no regular expressions; use contains or in"));
        }
        for (forms, relation) in RELATIONS {
            let Some(sign) = self.take(forms) else { continue };
            let ordered = matches!(field.kind, Type::Number | Type::Duration);
            let equality = matches!(relation, Relation::Eq | Relation::Ne);
            if field.kind == Type::Protocol || field.kind == Type::Bytes {
                let what = format!("{} cannot be compared, it is {}", field.name, field.kind.a());
                return Err(self.error(sign, what));
            }
            if !ordered && !equality {
                let what = format!(
                    "{} is {}, which is neither less nor more: use ==, != or in",
                    field.name,
                    field.kind.a()
                );
                return Err(self.error(sign, what));
            }
            let (literal, _) = self.literal(field, field.kind)?;
            return Ok(Condition::Compare(relation, literal));
        }
        if let Some(word) = self.take(&["in"]) {
            if matches!(field.kind, Type::Protocol | Type::Bytes | Type::Bool) {
                let what = format!("{} is {}, use it without `in`", field.name, field.kind.a());
                return Err(self.error(word, what));
            }
            return self.set(field).map(Condition::In);
        }
        if let Some(word) = self.take(&["contains"]) {
            if !matches!(field.kind, Type::Text | Type::Bytes) || mask.is_some() {
                let what =
                    format!("`contains` needs text or bytes, {} is {}", field.name, field.kind.a());
                return Err(self.error(word, what));
            }
            return self.contained().map(Condition::Contains);
        }
        // Wireshark takes the name of a flag alone as "the header has this flag field": true for every
        // TCP packet, and never what was meant.
        if field.kind == Type::Bool {
            let what = format!("say what {0} is to be: {0} == 1 or {0} == 0", field.name);
            return Err(self.error(named, what));
        }
        Ok(Condition::Present)
    }

    /// `{80 443 8000..8999}`
    fn set(&mut self, field: &'static Field) -> Result<Vec<Range>, ExprError> {
        let open = self.expect("{", "to start a set, as in {80 443 8000..8999}")?;
        let mut ranges = Vec::new();
        loop {
            if self.take(&["}"]).is_some() {
                break;
            }
            if self.peek().is_none() {
                return Err(self.error(open, "this set has no closing `}`"));
            }
            let (from, at) = self.literal(field, field.kind)?;
            let mut to = None;
            if self.take(&[".."]).is_some() {
                let (last, end) = self.literal(field, field.kind)?;
                let span = Spanned { end: end.end, ..at };
                literal::check_range(&from, &last).map_err(|what| self.error(span, what))?;
                to = Some(last);
            }
            ranges.push(Range { from, to });
            self.take(&[","]);
        }
        if ranges.is_empty() {
            return Err(self.error(open, "an empty set never matches"));
        }
        Ok(ranges)
    }

    fn contained(&mut self) -> Result<Vec<u8>, ExprError> {
        let Some(next) = self.peek() else {
            return Err(self.error_at_end("a string is expected after `contains`"));
        };
        let Token::Quoted(_) = next.token else {
            return Err(self.error(next, "a string in double quotes is expected after `contains`"));
        };
        self.next += 1;
        let bytes = lex::unquote(self.text, next)?;
        if bytes.is_empty() {
            return Err(self.error(next, "everything contains the empty string"));
        }
        Ok(bytes)
    }

    fn literal(
        &mut self,
        field: &'static Field,
        kind: Type,
    ) -> Result<(Literal, Spanned<'a>), ExprError> {
        let Some(next) = self.peek() else {
            return Err(self.error_at_end(format!("{} is expected here", kind.literal())));
        };
        let parsed = match next.token {
            Token::Sign(_) => Err(format!("{} is expected here", kind.literal())),
            Token::Word(word) => literal::parse(word, kind, field.max),
            Token::Quoted(_) if kind == Type::Text => {
                let bytes = lex::unquote(self.text, next)?;
                String::from_utf8(bytes)
                    .map(Literal::Text)
                    .map_err(|_| "this is no valid UTF-8, as names are".to_owned())
            }
            Token::Quoted(text) => Err(format!(
                "{} is {}: {} is expected, without quotes, not {text}",
                field.name,
                kind.a(),
                kind.literal()
            )),
        };
        self.next += 1;
        parsed.map(|literal| (literal, next)).map_err(|what| self.error(next, what))
    }
}

/// One node for a chain, chains inside it of the same kind taken apart.
fn join(
    mut nodes: Vec<Node>,
    make: fn(Vec<Node>) -> Node,
    open: fn(Node) -> Result<Vec<Node>, Node>,
) -> Node {
    if nodes.len() == 1
        && let Some(only) = nodes.pop()
    {
        return only;
    }
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match open(node) {
            Ok(inner) => flat.extend(inner),
            Err(node) => flat.push(node),
        }
    }
    make(flat)
}
