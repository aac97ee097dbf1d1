//! Calls to the store are of one shard and of a bounded size. Here a list of any mixture becomes such calls, side by side
//! where shards differ, and their answers come back in the order of the list.
use std::future::Future;

use futures::future::join_all;

use crate::{
    model::{ids::Shard, limits::STORE_BATCH},
    store::StoreError,
};

/// What of a list belongs to one shard.
struct Part<T> {
    shard: Shard,
    items: Vec<T>,
    /// Where each item stood in the list.
    places: Vec<usize>,
}

/// The one shard that all of `items` belong to, if one call can take them.
pub fn one_call<T>(items: &[T], shard_of: impl Fn(&T) -> Shard) -> Option<Shard> {
    let shard = shard_of(items.first()?);
    (items.len() <= STORE_BATCH && items.iter().all(|item| shard_of(item) == shard)).then_some(shard)
}

/// `items` by shard, in order of first appearance; their order within a shard stays.
pub fn by_shard<T>(items: Vec<T>, shard_of: impl Fn(&T) -> Shard) -> Vec<(Shard, Vec<T>)> {
    parts(items, shard_of).into_iter().map(|part| (part.shard, part.items)).collect()
}

/// Answers of `call` for every item, in order. Calls of one shard follow each other; once one of them fails, the rest of
/// that shard fails with it.
pub async fn spread<T, A, F>(
    items: Vec<T>,
    shard_of: impl Fn(&T) -> Shard,
    call: impl Fn(Shard, Vec<T>) -> F,
) -> Vec<Result<A, StoreError>>
where
    F: Future<Output = Result<Vec<A>, StoreError>>,
{
    let mut answers: Vec<Option<Result<A, StoreError>>> = Vec::new();
    answers.resize_with(items.len(), || None);
    let call = &call;
    let calls = parts(items, shard_of).into_iter().map(|part| async move {
        let answers = in_turn(part.shard, part.items, call).await;
        part.places.into_iter().zip(answers)
    });
    for (place, answer) in join_all(calls).await.into_iter().flatten() {
        answers[place] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.expect("a store answers every item of a call")).collect()
}

async fn in_turn<T, A, F>(shard: Shard, items: Vec<T>, call: &impl Fn(Shard, Vec<T>) -> F) -> Vec<Result<A, StoreError>>
where
    F: Future<Output = Result<Vec<A>, StoreError>>,
{
    let count = items.len();
    let mut answers = Vec::with_capacity(count);
    let mut rest = items;
    while !rest.is_empty() {
        let next = rest.split_off(rest.len().min(STORE_BATCH));
        match call(shard, rest).await {
            Ok(done) => answers.extend(done.into_iter().map(Ok)),
            Err(error) => {
                answers.resize_with(count, || Err(error.clone()));
                break;
            }
        }
        rest = next;
    }
    answers
}

fn parts<T>(items: Vec<T>, shard_of: impl Fn(&T) -> Shard) -> Vec<Part<T>> {
    let mut parts: Vec<Part<T>> = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        let shard = shard_of(&item);
        match parts.iter_mut().find(|part| part.shard == shard) {
            Some(part) => {
                part.items.push(item);
                part.places.push(place);
            }
            None => parts.push(Part { shard, items: vec![item], places: vec![place] }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn shard_of(item: &u32) -> Shard {
        Shard((item % 3) as u16)
    }

    #[tokio::test]
    async fn answers_come_back_in_order_whatever_the_shards() {
        let calls = Mutex::new(Vec::new());
        let items: Vec<u32> = (0..2_000).collect();
        let answers = spread(items.clone(), shard_of, |shard, items: Vec<u32>| {
            assert!(items.len() <= STORE_BATCH && items.iter().all(|item| shard_of(item) == shard));
            calls.lock().push((shard, items[0]));
            async move { Ok(items.into_iter().map(|item| item * 2).collect()) }
        });
        let answers: Vec<u32> = answers.await.into_iter().map(|answer| answer.expect("every call works")).collect();
        assert_eq!(answers, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let mut calls = calls.into_inner();
        calls.sort_unstable();
        let expected = [(0, 0), (0, 1_500), (1, 1), (1, 1_501), (2, 2), (2, 1_502)];
        assert_eq!(calls, expected.map(|(shard, first)| (Shard(shard), first)));
    }

    #[tokio::test]
    async fn a_shard_that_fails_fails_alone() {
        let answers = spread((0..9).collect(), shard_of, |shard, items: Vec<u32>| async move {
            if shard == Shard(1) { Err(StoreError::Unavailable("gone".into())) } else { Ok(items) }
        });
        let answers = answers.await;
        for (item, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_err(), item % 3 == 1, "{item}");
        }
    }

    #[test]
    fn one_call_is_enough_for_few_items_of_one_shard() {
        assert_eq!(one_call(&[1, 4, 7], shard_of), Some(Shard(1)));
        assert_eq!(one_call(&[1, 2], shard_of), None);
        assert_eq!(one_call(&[], shard_of), None);
        assert_eq!(one_call(&vec![3; STORE_BATCH + 1], shard_of), None);
    }
}
