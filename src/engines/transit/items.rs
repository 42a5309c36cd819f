//! One item, or many in one request: how a batch is read, worked off and answered.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    gate::{ApiError, Object, Query},
    route::{Fields, Reply},
};

/// What a request asks to be done, item by item.
pub(super) struct Items<T> {
    asked: Vec<Asked<T>>,
    is_batch: bool,
    /// What stands beside a batch and is given in each item only.
    beside: Vec<&'static str>,
    /// The status of a batch in which some items failed and some did not.
    partial: Option<u16>,
}

struct Asked<T> {
    reference: String,
    wish: Result<T, String>,
}

/// How a batch with failed items is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    /// 400, unless the request says another status for partial ones.
    Tell,
    /// 200: the errors stand in the items alone.
    InItems,
}

/// A mistake in an item: of this item, or one for which no item is looked at.
pub(super) enum Wrong {
    Item(String),
    Batch(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Item(text)
    }
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Self {
        Self::Item(text.to_owned())
    }
}

impl From<ApiError> for Wrong {
    fn from(error: ApiError) -> Self {
        Self::Item(error.public.join("; "))
    }
}

impl<T> Items<T> {
    /// Reads `batch_input`, or else the request's own members as one item.
    pub(super) fn read(
        fields: &Fields<'_>,
        read: impl Fn(&Fields<'_>) -> Result<T, Wrong>,
    ) -> Result<Self, ApiError> {
        let partial = fields.integer("partial_failure_response_code")?;
        let partial = partial.and_then(|code| u16::try_from(code).ok());
        let partial = partial.filter(|code| (200..600).contains(code));
        let Some(batch) = fields.raw("batch_input") else {
            let wish = match read(fields) {
                Ok(wish) => wish,
                Err(Wrong::Item(text) | Wrong::Batch(text)) => {
                    return Err(ApiError::bad_request(text));
                }
            };
            let asked = vec![Asked { reference: String::new(), wish: Ok(wish) }];
            return Ok(Self { asked, is_batch: false, beside: Vec::new(), partial });
        };
        let objects: Vec<Object<'_>> = serde_json::from_str(batch)
            .map_err(|_| unparsed("expected a list of objects".to_owned()))?;
        if objects.is_empty() {
            return Err(ApiError::bad_request("missing batch input to process"));
        }
        if objects.len() > MOST_ITEMS {
            return Err(too_many(objects.len(), MOST_ITEMS));
        }
        let given = |name: &&str| fields.present(name).is_some();
        let beside = ["context", "associated_data"].into_iter().filter(given).collect();
        // What stands beside a batch is known, though the items are what counts.
        drop(read(fields));
        let query = Query::default();
        let mut asked = Vec::with_capacity(objects.len());
        for (place, object) in objects.iter().enumerate() {
            let fields = Fields::inside(object, &query);
            let wish = match read(&fields) {
                Ok(wish) => Ok(wish),
                Err(Wrong::Item(text)) => Err(text),
                Err(Wrong::Batch(text)) => return Err(unparsed(format!("[{place}]: {text}"))),
            };
            let reference = fields.text("reference")?.unwrap_or_default();
            asked.push(Asked { reference, wish });
        }
        Ok(Self { asked, is_batch: true, beside, partial })
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// The items that are in order.
    pub(super) fn wishes(&self) -> impl Iterator<Item = &T> {
        self.asked.iter().filter_map(|asked| asked.wish.as_ref().ok())
    }

    /// Does `work` with each item that is in order.
    pub(super) fn map<O>(self, mut work: impl FnMut(T) -> Result<O, String>) -> Items<O> {
        let done = |asked: Asked<T>| Asked {
            reference: asked.reference,
            wish: asked.wish.and_then(&mut work),
        };
        Items {
            asked: self.asked.into_iter().map(done).collect(),
            is_batch: self.is_batch,
            beside: self.beside,
            partial: self.partial,
        }
    }
}

impl<T: Send + 'static> Items<T> {
    /// The same on another thread when it takes long enough to be in the way of others.
    pub(super) async fn map_aside<O: Send + 'static>(
        self,
        is_slow: bool,
        work: impl FnMut(T) -> Result<O, String> + Send + 'static,
    ) -> Result<Items<O>, ApiError> {
        if is_slow && self.len() > MOST_SLOW_ITEMS {
            return Err(too_many(self.len(), MOST_SLOW_ITEMS));
        }
        if !is_slow && self.len() < ITEMS_DONE_AT_ONCE {
            return Ok(self.map(work));
        }
        tokio::task::spawn_blocking(move || self.map(work)).await.map_err(ApiError::internal)
    }
}

impl<O: Outcome> Items<O> {
    /// The answer to one item, or the list of all.
    pub(super) fn answer(self, failures: Failures) -> Result<Reply<Answer<O>>, ApiError> {
        if !self.is_batch {
            let one = self.asked.into_iter().next().map(|asked| asked.wish);
            return match one {
                Some(Ok(done)) => Ok(Reply::of(Answer::One(done))),
                Some(Err(text)) => Err(ApiError::bad_request(text)),
                None => Err(ApiError::bad_request("missing batch input to process")),
            };
        }
        let failed = self.asked.iter().filter(|asked| asked.wish.is_err()).count();
        let status = match self.partial {
            _ if failed == 0 || failures == Failures::InItems => 200,
            Some(code) if failed < self.asked.len() => code,
            Some(_) | None => 400,
        };
        // The peers say nothing; a ciphertext that is bound to less than was meant is worth a word.
        let warnings = self.beside.iter().map(|name| {
            format!("{name} beside batch_input has no effect: it is given in each item")
        });
        let warnings: Vec<String> = warnings.collect();
        let reply = Reply::of(Answer::Many { batch_results: Many(self.asked) });
        Ok(reply.with_status(status).with_warnings(warnings))
    }
}

/// What becomes of an item, as members of its object.
pub(super) trait Outcome: Send {
    /// Members of a failed item beside `error` and `reference`.
    fn failed<M: SerializeMap>(map: &mut M) -> Result<(), M::Error>;

    /// Members of one that is done. Batches differ from single answers in a few names.
    fn done<M: SerializeMap>(&self, map: &mut M, is_batch: bool) -> Result<(), M::Error>;
}

/// `data` of an answer.
#[derive(Debug)]
pub(super) enum Answer<O> {
    One(O),
    Many { batch_results: Many<O> },
}

pub(super) struct Many<O>(Vec<Asked<O>>);

impl<O> std::fmt::Debug for Many<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} items", self.0.len())
    }
}

impl<O: Outcome> Serialize for Answer<O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::One(done) => done.done(&mut map, false)?,
            Self::Many { batch_results } => map.serialize_entry("batch_results", batch_results)?,
        }
        map.end()
    }
}

impl<O: Outcome> Serialize for Many<O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<O: Outcome> Serialize for Asked<O> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.wish {
            Ok(done) => done.done(&mut map, true)?,
            Err(text) => {
                map.serialize_entry("error", text)?;
                O::failed(&mut map)?;
            }
        }
        map.serialize_entry("reference", &self.reference)?;
        map.end()
    }
}

fn unparsed(text: String) -> ApiError {
    ApiError::bad_request(format!("failed to parse batch input: {text}"))
}

fn too_many(count: usize, most: usize) -> ApiError {
    ApiError::bad_request(format!(
        "batch_input has {count} items and may have {most}: send more of them in another request"
    ))
}

/// Items of one request: each has its own object in the answer and its own digests in the audit
/// lines, so that a short body of many is a long work.
const MOST_ITEMS: usize = 10_000;
/// The same of private RSA operations, which take milliseconds each.
const MOST_SLOW_ITEMS: usize = 1_000;
/// Fewer items are done where they were read: handing them to another thread would cost more.
const ITEMS_DONE_AT_ONCE: usize = 64;
