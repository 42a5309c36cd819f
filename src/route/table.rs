use std::{fmt, future::Future};

use super::{Fields, FromFields, IntoRaw};
use crate::gate::{Access, ApiError, Boxed, Call, Needs, Object, Operation, Permit, RawReply};

/// An `async fn (&Engine, &Permit, Input) -> Result<Output, ApiError>`.
pub trait Handler<'a, E: 'a, Input, Output>: Send + Sync {
    /// What it returns before it is awaited.
    type Future: Future<Output = Result<Output, ApiError>> + Send + 'a;

    /// Calls it.
    fn call(&self, engine: &'a E, permit: &'a Permit<'a>, input: Input) -> Self::Future;
}

impl<'a, E: 'a, Input, Output, F, Fut> Handler<'a, E, Input, Output> for F
where
    F: Fn(&'a E, &'a Permit<'a>, Input) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Output, ApiError>> + Send + 'a,
{
    type Future = Fut;

    fn call(&self, engine: &'a E, permit: &'a Permit<'a>, input: Input) -> Fut {
        self(engine, permit, input)
    }
}

type Erased<E> = Box<
    dyn for<'a> Fn(&'a E, &'a Permit<'a>, &Fields<'_>) -> Boxed<'a, Result<RawReply, ApiError>>
        + Send
        + Sync,
>;

/// One operation of one pattern.
pub struct Route<E> {
    /// The pattern after the mount's path, in matchit's form.
    pub pattern: &'static str,
    /// What it answers.
    pub operation: Operation,
    /// What it asks of its caller.
    pub needs: Needs,
    run: Erased<E>,
}

impl<E> fmt::Debug for Route<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:?}", self.operation, self.pattern, self.needs)
    }
}

/// A wing's table of routes.
///
/// A pattern is matchit's, or a path of any length between two words: `mounts/{*path}/tune`. Of two
/// that fit, the latter counts.
pub struct Routes<E> {
    routes: Vec<Route<E>>,
    /// Patterns of the second kind: what is before the path, what is behind it, the slot.
    enclosed: Vec<(&'static str, &'static str, usize)>,
    /// From a path to the operations of its pattern: a slot each, by index in [`Operation::ALL`].
    patterns: matchit::Router<usize>,
    slots: Vec<Slot>,
    otherwise: fn() -> Result<RawReply, ApiError>,
}

struct Slot {
    pattern: &'static str,
    routes: Vec<usize>,
}

impl<E> fmt::Debug for Routes<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

impl<E> Default for Routes<E> {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            enclosed: Vec::new(),
            patterns: matchit::Router::new(),
            slots: Vec::new(),
            otherwise: || Err(ApiError::unsupported_path()),
        }
    }
}

impl<E: Send + Sync + 'static> Routes<E> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for `operation` at `pattern`.
    #[must_use]
    pub fn on<Input, Output, H>(
        self,
        operation: Operation,
        pattern: &'static str,
        handler: H,
    ) -> Self
    where
        Input: FromFields + 'static,
        Output: IntoRaw + 'static,
        H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
    {
        self.add(operation, pattern, Needs::TOKEN, handler)
    }

    /// The same for callers with `sudo` on the path.
    #[must_use]
    pub fn on_sudo<Input, Output, H>(
        self,
        operation: Operation,
        pattern: &'static str,
        handler: H,
    ) -> Self
    where
        Input: FromFields + 'static,
        Output: IntoRaw + 'static,
        H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
    {
        self.add(operation, pattern, Needs { access: Access::Sudo, ..Needs::TOKEN }, handler)
    }

    /// The same for every token that holds: the handler judges what it may see.
    #[must_use]
    pub fn on_holder<Input, Output, H>(
        self,
        operation: Operation,
        pattern: &'static str,
        handler: H,
    ) -> Self
    where
        Input: FromFields + 'static,
        Output: IntoRaw + 'static,
        H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
    {
        self.add(operation, pattern, Needs { access: Access::Holder, ..Needs::TOKEN }, handler)
    }

    /// A write that creates or updates: the engine is asked which before the caller is judged.
    #[must_use]
    pub fn on_create_or_update<Input, Output, H>(self, pattern: &'static str, handler: H) -> Self
    where
        Input: FromFields + 'static,
        Output: IntoRaw + 'static,
        H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
    {
        let needs = Needs { asks_existence: true, ..Needs::TOKEN };
        self.add(Operation::Write, pattern, needs, handler)
    }

    /// What is answered where no pattern fits, in place of 404 `unsupported path`.
    #[must_use]
    pub fn otherwise(mut self, answer: fn() -> Result<RawReply, ApiError>) -> Self {
        self.otherwise = answer;
        self
    }

    /// Every route, for tables and tests.
    pub fn all(&self) -> &[Route<E>] {
        &self.routes
    }

    /// What the route for `path` asks of its caller, the ordinary where there is none.
    pub fn needs(&self, operation: Operation, path: &str) -> Needs {
        let found = self.enclosed(path).map(|(slot, _)| slot);
        // Asked of each request: no list of parameters is made.
        let slot = found.or_else(|| self.patterns.at(path).ok().map(|found| *found.value));
        let route = slot.and_then(|slot| self.pick(slot, operation));
        route.map_or(Needs::TOKEN, |route| route.needs)
    }

    /// Runs the handler for a call.
    pub fn dispatch<'a>(
        &self,
        engine: &'a E,
        permit: &'a Permit<'a>,
        call: Call<'a>,
    ) -> Boxed<'a, Result<RawReply, ApiError>> {
        let Some((slot, parameters)) = self.find(call.path) else {
            let answer = (self.otherwise)();
            return Box::pin(async move { answer });
        };
        let Some(route) = self.pick(slot, call.head.operation) else {
            return Box::pin(async { Err(ApiError::unsupported_operation()) });
        };
        // The input is made before the future, so that nothing borrowed from the body crosses an
        // await.
        call.body.expose_bytes(|bytes| {
            let object = bytes.map(Object::of_checked).unwrap_or_default();
            let fields = Fields::new(parameters, &call.head.query, &object).of_whole(bytes);
            (route.run)(engine, permit, &fields)
        })
    }

    /// The slot of a path, and the parameters of its pattern.
    fn find<'p>(&'p self, path: &'p str) -> Option<(usize, Vec<(&'p str, &'p str)>)> {
        if let Some((slot, inside)) = self.enclosed(path) {
            return Some((slot, vec![("path", inside)]));
        }
        let found = self.patterns.at(path).ok()?;
        Some((*found.value, found.params.iter().collect()))
    }

    /// The slot of an enclosed path, and the path.
    fn enclosed<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        self.enclosed.iter().find_map(|(before, behind, slot)| {
            let inside = path.strip_prefix(before)?.strip_suffix(behind)?;
            (!inside.is_empty()).then_some((*slot, inside))
        })
    }

    fn pick(&self, slot: usize, operation: Operation) -> Option<&Route<E>> {
        let slot = self.slots.get(slot)?;
        let mut routes = slot.routes.iter().filter_map(|index| self.routes.get(*index));
        routes.find(|route| route.operation == operation)
    }

    fn add<Input, Output, H>(
        mut self,
        operation: Operation,
        pattern: &'static str,
        needs: Needs,
        handler: H,
    ) -> Self
    where
        Input: FromFields + 'static,
        Output: IntoRaw + 'static,
        H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
    {
        let route = self.routes.len();
        match self.slots.iter_mut().find(|slot| slot.pattern == pattern) {
            Some(slot) => slot.routes.push(route),
            None => {
                self.insert(pattern);
                self.slots.push(Slot { pattern, routes: vec![route] });
            }
        }
        self.routes.push(Route { pattern, operation, needs, run: erase(handler) });
        self
    }

    #[expect(
        clippy::expect_used,
        reason = "patterns are written in the source; a test builds each table"
    )]
    fn insert(&mut self, pattern: &'static str) {
        if let Some((before, behind)) = pattern.split_once(ENCLOSED)
            && !behind.is_empty()
        {
            return self.enclosed.push((before, behind, self.slots.len()));
        }
        self.patterns.insert(pattern, self.slots.len()).expect("no two patterns of a wing collide");
    }
}

/// What stands for a path of any length.
const ENCLOSED: &str = "{*path}";

fn erase<E, Input, Output, H>(handler: H) -> Erased<E>
where
    E: Send + Sync + 'static,
    Input: FromFields + 'static,
    Output: IntoRaw + 'static,
    H: for<'a> Handler<'a, E, Input, Output> + Clone + 'static,
{
    Box::new(move |engine, permit, fields| {
        let input = Input::from_fields(fields).map_err(ApiError::of_input);
        let unknown = unknown_warning(fields);
        let handler = handler.clone();
        Box::pin(async move {
            let mut reply = handler.call(engine, permit, input?).await?.into_raw()?;
            // A call that answers nothing stays a 204, as with the peers.
            if !reply.is_empty() {
                reply.warnings.extend(unknown);
            }
            Ok(reply)
        })
    })
}

fn unknown_warning(fields: &Fields<'_>) -> Option<String> {
    let unknown = fields.unknown();
    let names = unknown.join(" ");
    (!unknown.is_empty())
        .then(|| format!("Endpoint ignored these unrecognized parameters: [{names}]"))
}
