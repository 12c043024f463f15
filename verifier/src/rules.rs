//! Which requests a service answers, and the scope each needs.

use std::cmp::Ordering;
use std::fmt;

use chancery_identity::normalise::{Path, PathRefused};
use chancery_identity::{Scope, ScopeError};

/// The requests that a service answers. What no rule lists is refused.
///
/// A path's `{name}` segments stand for exactly one segment each; the scope's object may use them as whole segments. Of
/// two rules that match a path the one with the earlier literal segment counts, as in axum's router. Methods are
/// compared exactly: a rule for `GET` is none for `HEAD`. A scope says nothing about query and body.
///
/// ```
/// # use chancery_verifier::Rules;
/// let rules = Rules::new()
///     .allow("GET", "/customers/{id}", "tools/call:crm/get_customer")?
///     .allow("GET", "/projects/{name}", "resources/read:crm/projects/{name}")?
///     .public("GET", "/healthz");
/// # Ok::<(), chancery_verifier::RulesRefused>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    high_risk: Vec<Scope>,
    refused: Option<RulesRefused>,
}

impl Rules {
    /// No rules: everything is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a request through for peers that hold the scope.
    ///
    /// # Errors
    /// A path template or scope that is none; a name in the scope that the path does not have; a rule for the same
    /// requests before.
    pub fn allow(self, method: impl AsRef<str>, path: &str, scope: &str) -> Result<Self, RulesRefused> {
        let template = Template::parse(path)?;
        let needs = Needs::parse(scope, &template)?;
        self.with(Rule { method: method.as_ref().into(), template, access: Access::Scope(needs) })
    }

    /// Lets a request through whoever makes it, without a look at the certificate.
    ///
    /// A path template that is none is reported when a guard is made of the rules.
    #[must_use]
    pub fn public(self, method: impl AsRef<str>, path: &str) -> Self {
        let rule = |template| Rule { method: method.as_ref().into(), template, access: Access::Public };
        let before = self.clone();
        match Template::parse(path).and_then(|template| self.with(rule(template))) {
            Ok(rules) => rules,
            Err(refused) => Self { refused: before.refused.clone().or(Some(refused)), ..before },
        }
    }

    /// Marks scopes as of high risk: requests that need one that overlaps are refused as soon as what is known of
    /// revocations is stale.
    ///
    /// # Errors
    /// A text that is no scope.
    pub fn high_risk(mut self, scope: &str) -> Result<Self, RulesRefused> {
        self.high_risk.push(parse_scope(scope)?);
        Ok(self)
    }

    fn with(mut self, rule: Rule) -> Result<Self, RulesRefused> {
        // Sorted so that the first match is the one with the earliest literal segment.
        match self.rules.binary_search_by(|held| held.order(&rule)) {
            Ok(_) => Err(RulesRefused::Twice { method: rule.method, path: rule.template.to_string().into() }),
            Err(at) => {
                self.rules.insert(at, rule);
                Ok(self)
            }
        }
    }

    /// The rules as they are, if all that was said could be understood.
    pub(crate) fn checked(self) -> Result<Self, RulesRefused> {
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(self),
        }
    }

    /// The systems that scopes of the rules name, each at least once.
    pub(crate) fn systems(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.access {
            Access::Scope(needs) => Some(needs.sample.system()),
            Access::Public => None,
        })
    }

    /// What a request needs; `None` when no rule lists it.
    pub(crate) fn needs(&self, method: &str, path: &Path) -> Option<Result<Access<Scope>, RulesRefused>> {
        let rule = self.rules.iter().find(|rule| &*rule.method == method && rule.template.matches(path))?;
        Some(match &rule.access {
            Access::Public => Ok(Access::Public),
            Access::Scope(needs) => needs.filled(&rule.template, path).map(Access::Scope),
        })
    }

    pub(crate) fn of_high_risk(&self, scope: &Scope) -> bool {
        self.high_risk.iter().any(|risk| risk.overlaps(scope))
    }
}

impl fmt::Display for Rules {
    /// How many there are, and what is open to everybody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public: Vec<&Rule> = self.rules.iter().filter(|rule| matches!(rule.access, Access::Public)).collect();
        write!(f, "rules {}, public {}", self.rules.len() - public.len(), public.len())?;
        for (at, rule) in public.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { " (" } else { ", " }, rule.template)?;
        }
        if public.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// What a rule asks of the peer.
#[derive(Clone, Debug)]
pub(crate) enum Access<S> {
    Public,
    Scope(S),
}

#[derive(Clone, Debug)]
struct Rule {
    method: Box<str>,
    template: Template,
    access: Access<Needs>,
}

impl Rule {
    fn order(&self, other: &Self) -> Ordering {
        self.method.cmp(&other.method).then_with(|| self.template.order(&other.template))
    }
}

/// A path with names for some of its segments.
#[derive(Clone, Debug)]
struct Template(Vec<Segment>);

#[derive(Clone, Debug)]
enum Segment {
    /// In the spelling of scope objects.
    Literal(Box<str>),
    Name(Box<str>),
}

impl Template {
    fn parse(text: &str) -> Result<Self, RulesRefused> {
        let refused = |why| RulesRefused::Path { came: text.into(), why };
        let Some(rest) = text.strip_prefix('/') else { return Err(refused(PathRefused::NotAbsolute)) };
        let mut segments: Vec<Segment> = Vec::new();
        if rest.is_empty() {
            return Ok(Self(segments));
        }
        for segment in rest.split('/') {
            segments.push(if let Some(name) = name(segment) {
                if segments.iter().any(|held| matches!(held, Segment::Name(held) if **held == *name)) {
                    return Err(RulesRefused::NameTwice(name.into()));
                }
                Segment::Name(name.into())
            } else if segment.contains(['{', '}']) {
                return Err(RulesRefused::Braces(text.into()));
            } else {
                let path = Path::parse(&format!("/{segment}")).map_err(refused)?;
                let literal = path.segments().first().ok_or_else(|| refused(PathRefused::EmptySegment))?;
                Segment::Literal(literal.as_str().into())
            });
        }
        Ok(Self(segments))
    }

    fn matches(&self, path: &Path) -> bool {
        self.0.len() == path.segments().len()
            && self.0.iter().zip(path.segments()).all(|(own, came)| match own {
                Segment::Literal(literal) => **literal == **came,
                Segment::Name(_) => true,
            })
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|segment| matches!(segment, Segment::Name(held) if **held == *name))
    }

    /// Literals before names, segment by segment; equal when both match the same paths.
    fn order(&self, other: &Self) -> Ordering {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(literal) => (0, literal.clone()),
            Segment::Name(_) => (1, Box::default()),
        };
        self.0.iter().map(rank).cmp(other.0.iter().map(rank))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Name(name) => write!(f, "/{{{name}}}"),
        })
    }
}

/// The `name` of a `{name}` segment.
fn name(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let well_formed = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    well_formed.then_some(name)
}

/// A scope whose object may take segments from the path.
#[derive(Clone, Debug)]
struct Needs {
    /// The scope as written, up to and with the `/` before its object.
    head: Box<str>,
    object: Vec<Part>,
    /// The scope itself if it takes nothing from the path, else with its names filled in by themselves.
    sample: Scope,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<str>),
    /// The path's segment at this place.
    Taken(usize),
}

impl Needs {
    fn parse(text: &str, template: &Template) -> Result<Self, RulesRefused> {
        let (head, object) = match text.find(':').and_then(|colon| text.get(colon..)?.find('/').map(|at| colon + at)) {
            Some(slash) => text.split_at(slash + 1),
            None => (text, ""),
        };
        if head.contains(['{', '}']) {
            return Err(RulesRefused::Braces(text.into()));
        }
        let mut parts = Vec::new();
        let mut sample = String::from(head);
        for (at, segment) in object.split('/').enumerate() {
            if at > 0 {
                sample.push('/');
            }
            if let Some(name) = name(segment) {
                sample.push_str(name);
                parts.push(Part::Taken(template.position(name).ok_or_else(|| RulesRefused::Name(name.into()))?));
            } else if segment.contains(['{', '}']) {
                return Err(RulesRefused::Braces(text.into()));
            } else {
                sample.push_str(segment);
                parts.push(Part::Literal(segment.into()));
            }
        }
        let sample = parse_scope(&sample)?;
        Ok(Self { head: head.into(), object: parts, sample })
    }

    /// The scope for one request. The path's segments are in the spelling of scopes already.
    fn filled(&self, template: &Template, path: &Path) -> Result<Scope, RulesRefused> {
        if !self.object.iter().any(|part| matches!(part, Part::Taken(_))) {
            return Ok(self.sample.clone());
        }
        debug_assert!(template.matches(path), "segments are taken from a path that matched");
        let mut text = String::from(&*self.head);
        for (at, part) in self.object.iter().enumerate() {
            if at > 0 {
                text.push('/');
            }
            text.push_str(match part {
                Part::Literal(literal) => literal,
                Part::Taken(at) => path.segments().get(*at).map_or("", String::as_str),
            });
        }
        parse_scope(&text)
    }
}

fn parse_scope(text: &str) -> Result<Scope, RulesRefused> {
    text.parse().map_err(|why| RulesRefused::Scope { came: text.into(), why })
}

/// Rules that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesRefused {
    /// A path that is none.
    Path {
        /// What came.
        came: Box<str>,
        /// What is wrong with it.
        why: PathRefused,
    },
    /// A scope that is none.
    Scope {
        /// What came.
        came: Box<str>,
        /// What is wrong with it.
        why: ScopeError,
    },
    /// A brace that does not enclose a whole segment, or not a name.
    Braces(Box<str>),
    /// A name in the scope that the path does not have.
    Name(Box<str>),
    /// A name twice in one path.
    NameTwice(Box<str>),
    /// Two rules for the same requests.
    Twice {
        /// Their method.
        method: Box<str>,
        /// The later one's path.
        path: Box<str>,
    },
    /// A scope of a system that this service does not answer for.
    System {
        /// The scope's.
        came: Box<str>,
        /// Those of the service's own certificate.
        wanted: Vec<chancery_identity::System>,
    },
}

impl fmt::Display for RulesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { came, why } => write!(f, "path {came:?}: {why}"),
            Self::Scope { came, why } => write!(f, "scope {came:?}: {why}"),
            Self::Braces(came) => {
                write!(f, "in {came:?}: braces enclose one whole segment's name, as in /customers/{{id}}")
            }
            Self::Name(name) => write!(f, "the scope takes {{{name}}}, which the path does not have"),
            Self::NameTwice(name) => write!(f, "the path has {{{name}}} twice"),
            Self::Twice { method, path } => write!(f, "a rule before matches the same requests as {method} {path}"),
            Self::System { came, wanted } => {
                write!(f, "a rule needs a scope of system {came}; this service's certificate answers for ")?;
                match wanted.as_slice() {
                    [] => f.write_str("none"),
                    [first, rest @ ..] => {
                        write!(f, "{first}")?;
                        rest.iter().try_for_each(|system| write!(f, ", {system}"))
                    }
                }
            }
        }
    }
}

impl std::error::Error for RulesRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(rules: &Rules, method: &str, path: &str) -> Option<String> {
        let path = Path::parse(path).unwrap();
        rules.needs(method, &path).map(|access| match access.unwrap() {
            Access::Public => "public".into(),
            Access::Scope(scope) => scope.to_string(),
        })
    }

    #[test]
    fn the_earlier_literal_segment_counts() {
        let rules = Rules::new()
            .allow("GET", "/{a}/{b}", "read:crm/any/{b}/of/{a}")
            .unwrap()
            .allow("GET", "/{a}/export", "read:crm/export/{a}")
            .unwrap()
            .allow("GET", "/customers/{id}", "read:crm/customers/{id}")
            .unwrap()
            .allow("PUT", "/customers/{id}", "write:crm/customers/{id}")
            .unwrap()
            .allow("GET", "/", "read:crm/root")
            .unwrap()
            .public("GET", "/customers/public");
        assert_eq!(needs(&rules, "GET", "/customers/42").unwrap(), "read:crm/customers/42");
        assert_eq!(needs(&rules, "GET", "/customers/export").unwrap(), "read:crm/customers/export");
        assert_eq!(needs(&rules, "GET", "/orders/export").unwrap(), "read:crm/export/orders");
        assert_eq!(needs(&rules, "GET", "/orders/7").unwrap(), "read:crm/any/7/of/orders");
        assert_eq!(needs(&rules, "GET", "/customers/public").unwrap(), "public");
        assert_eq!(needs(&rules, "PUT", "/customers/public").unwrap(), "write:crm/customers/public");
        assert_eq!(needs(&rules, "GET", "/").unwrap(), "read:crm/root");
        for (method, path) in [("GET", "/customers"), ("GET", "/a/b/c"), ("PUT", "/"), ("get", "/"), ("PUT", "/a/b")] {
            assert_eq!(needs(&rules, method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn a_segment_reaches_the_scope_in_one_spelling() {
        let rules = Rules::new().allow("GET", "/files/{name}", "read:crm/files/{name}").unwrap();
        assert_eq!(needs(&rules, "GET", "/files/a%20b").unwrap(), "read:crm/files/a%20b");
        assert_eq!(needs(&rules, "GET", "/files/%c3%bc").unwrap(), "read:crm/files/%C3%BC");
        assert_eq!(needs(&rules, "GET", "/files/%61").unwrap(), "read:crm/files/a");
        let long = Path::parse(&format!("/files/{}", "a".repeat(300))).unwrap();
        assert!(rules.needs("GET", &long).unwrap().is_err());
        // Templates are normalised as requests are.
        let rules = Rules::new().allow("GET", "/%66iles/{name}", "read:crm/files/{name}").unwrap();
        assert!(needs(&rules, "GET", "/files/a").is_some());
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let allow = |path: &str, scope: &str| Rules::new().allow("GET", path, scope).unwrap_err();
        assert!(matches!(allow("customers", "read:crm/a"), RulesRefused::Path { .. }));
        assert!(matches!(allow("/customers/", "read:crm/a"), RulesRefused::Path { .. }));
        assert!(matches!(allow("/customers/*", "read:crm/a"), RulesRefused::Path { .. }));
        assert!(matches!(allow("/customers/x{id}", "read:crm/a"), RulesRefused::Braces(_)));
        assert!(matches!(allow("/customers/{*rest}", "read:crm/a"), RulesRefused::Braces(_)));
        assert!(matches!(allow("/{id}/{id}", "read:crm/a"), RulesRefused::NameTwice(_)));
        assert!(matches!(allow("/{id}", "read:crm/{name}"), RulesRefused::Name(_)));
        assert!(matches!(allow("/{id}", "read:crm/x{id}"), RulesRefused::Braces(_)));
        assert!(matches!(allow("/{id}", "read:{id}/x"), RulesRefused::Braces(_)));
        assert!(matches!(allow("/{id}", "read crm"), RulesRefused::Scope { .. }));
        assert!(matches!(allow("/{id}", "read:*/x"), RulesRefused::Scope { .. }));

        let one = || Rules::new().allow("GET", "/a/{x}", "read:crm/a").unwrap();
        assert!(matches!(one().allow("GET", "/a/{y}", "read:crm/b"), Err(RulesRefused::Twice { .. })));
        assert!(matches!(one().public("GET", "/a/{y}").checked(), Err(RulesRefused::Twice { .. })));
        assert!(matches!(one().public("GET", "nowhere").checked(), Err(RulesRefused::Path { .. })));
        // What was wrong is not forgotten over what comes after.
        assert!(one().public("GET", "nowhere").public("GET", "/b").checked().is_err());
        assert!(one().allow("PUT", "/a/{x}", "read:crm/a").is_ok());
    }
}
