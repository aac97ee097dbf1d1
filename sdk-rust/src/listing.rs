//! Lists of the server, fetched page by page as they are read.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;

use crate::errors::Error;

/// One page to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub token: String,
    pub size: i32,
    /// Whole records.
    pub full: bool,
}

/// A page, and the token of the one behind it.
pub(crate) type Fetched<T> = Result<(Vec<T>, String), Error>;

type Fetch<T> = Arc<dyn Fn(Page) -> BoxFuture<'static, Fetched<T>> + Send + Sync>;

/// A list that the server holds: a [`Stream`] that asks for a page when the one before has been read. Nothing is asked
/// before it is polled. Ends after an error.
#[must_use = "nothing is asked of the server until the stream is read"]
pub struct Listing<T> {
    fetch: Fetch<T>,
    next: Option<Page>,
    fetching: Option<BoxFuture<'static, Fetched<T>>>,
    items: VecDeque<T>,
}

impl<T> Listing<T> {
    pub(crate) fn new(fetch: impl Fn(Page) -> BoxFuture<'static, Fetched<T>> + Send + Sync + 'static) -> Self {
        let first = Page { token: String::new(), size: 0, full: false };
        Self { fetch: Arc::new(fetch), next: Some(first), fetching: None, items: VecDeque::new() }
    }

    /// How many to fetch at once. Default 50, at most 1,000.
    pub fn page_size(self, size: i32) -> Self {
        self.edit(|page| page.size = size)
    }

    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Page)) -> Self {
        if let Some(page) = &mut self.next {
            change(page);
        }
        self
    }
}

impl<T> std::fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("next", &self.next).field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl<T: Unpin> Stream for Listing<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.items.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            let Some(page) = this.next.clone() else { return Poll::Ready(None) };
            let fetching = this.fetching.get_or_insert_with(|| (this.fetch)(page.clone()));
            let fetched = ready!(fetching.as_mut().poll(context));
            (this.fetching, this.next) = (None, None);
            match fetched {
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok((items, token)) => {
                    this.items = items.into();
                    // A page may be short, or empty, and still have a successor.
                    this.next = Some(Page { token, ..page }).filter(|page| !page.token.is_empty());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt, TryStreamExt};

    /// Three pages, the second one empty.
    fn numbers() -> Listing<i32> {
        Listing::new(|page: Page| {
            async move {
                match page.token.as_str() {
                    "" => Ok((vec![1, page.size], "b".to_owned())),
                    "b" => Ok((vec![], "c".to_owned())),
                    _ => Ok((vec![3], String::new())),
                }
            }
            .boxed()
        })
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_end() {
        assert_eq!(numbers().page_size(2).try_collect::<Vec<_>>().await.expect("numbers"), [1, 2, 3]);
    }

    #[tokio::test]
    async fn an_error_is_the_end() {
        let mut failing = Listing::<i32>::new(|_| async { Err(Error::Config("no".into())) }.boxed());
        assert!(failing.next().await.expect("an item").is_err());
        assert!(failing.next().await.is_none());
    }
}
