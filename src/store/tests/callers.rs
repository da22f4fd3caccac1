//! Keys, and requests that are done once.

use std::time::Duration;

use super::{Kit, NOW, on_every_store, on_redis};
use crate::admission::idempotency::{KEPT_FOR, Known, Sealed};
use crate::tenant::key::{self, Key, Wish};
use crate::tenant::secret::Pepper;
use crate::tenant::vault::Added;

on_every_store! {
    a_key_comes_back_as_it_was_added_and_every_change_counts,
    names_are_given_once_and_another_secret_adds_nothing,
    a_rotated_key_has_two_texts_and_a_revoked_one_stays,
    of_many_who_begin_at_once_one_is_told_to,
    an_answer_is_kept_and_a_released_key_begins_anew,
    an_answer_is_forgotten_after_a_day,
}

on_redis! {
    of_many_who_begin_at_once_one_is_told_to,
    an_answer_is_kept_and_a_released_key_begins_anew,
}

fn key(name: &str, pepper: &Pepper) -> Key {
    let mut wish = Wish { name: name.to_owned(), team: Some("search".to_owned()), ..Wish::default() };
    wish.tags = vec!["a".to_owned(), "b".to_owned()];
    wish.limits.models = vec!["house".to_owned()];
    key::issue(wish, pepper, NOW).expect("a key").0
}

async fn a_key_comes_back_as_it_was_added_and_every_change_counts(kit: Kit) {
    let (vault, pepper) = (kit.store.vault(), Pepper::random().expect("randomness"));
    let empty = vault.contents().await.expect("contents");
    assert!(empty.keys.is_empty() && empty.fingerprint.is_none());
    let key = key("one", &pepper);
    assert_eq!(vault.add(&key, pepper.fingerprint()).await.expect("an answer"), Added::Yes);
    let contents = vault.contents().await.expect("contents");
    assert_eq!(contents.keys.len(), 1);
    let kept = &contents.keys[0];
    assert_eq!((&kept.id, &kept.name, &kept.team, &kept.tags), (&key.id, &key.name, &key.team, &key.tags));
    assert_eq!((&kept.limits, &kept.secrets, kept.role), (&key.limits, &key.secrets, key.role));
    assert_eq!(contents.fingerprint, Some(pepper.fingerprint()));
    assert_eq!(contents.version, vault.version().await.expect("a version"));
    assert!(contents.version > empty.version);
}

async fn names_are_given_once_and_another_secret_adds_nothing(kit: Kit) {
    let (vault, pepper) = (kit.store.vault(), Pepper::random().expect("randomness"));
    let (first, again) = (key("one", &pepper), key("one", &pepper));
    let both = tokio::join!(vault.add(&first, pepper.fingerprint()), vault.add(&again, pepper.fingerprint()));
    let mut answers = [both.0.expect("an answer"), both.1.expect("an answer")];
    answers.sort_by_key(|added| *added != Added::Yes);
    assert_eq!(answers, [Added::Yes, Added::NameTaken]);
    let other = Pepper::random().expect("randomness");
    let added = vault.add(&key("two", &other), other.fingerprint()).await.expect("an answer");
    assert_eq!(added, Added::OtherSecret);
    assert_eq!(vault.contents().await.expect("contents").keys.len(), 1);
}

async fn a_rotated_key_has_two_texts_and_a_revoked_one_stays(kit: Kit) {
    let (vault, pepper) = (kit.store.vault(), Pepper::random().expect("randomness"));
    let first = key("one", &pepper);
    vault.add(&first, pepper.fingerprint()).await.expect("an answer");
    let (fresh, _) = key::fresh(&pepper, NOW + 1).expect("a text");
    assert!(vault.rotate(&first.id, fresh, NOW + 50).await.expect("an answer"));
    let secrets = vault.contents().await.expect("contents").keys[0].secrets.clone();
    assert_eq!(secrets.iter().map(|kept| kept.expires_unix_ms).collect::<Vec<_>>(), [None, Some(NOW + 50)]);
    assert_eq!(secrets[0].digest, fresh.digest);
    let (newest, _) = key::fresh(&pepper, NOW + 2).expect("a text");
    assert!(vault.rotate(&first.id, newest, NOW + 99).await.expect("an answer"));
    let secrets = vault.contents().await.expect("contents").keys[0].secrets.clone();
    let ends: Vec<_> = secrets.iter().map(|kept| kept.expires_unix_ms).collect();
    assert_eq!(ends, [None, Some(NOW + 99), Some(NOW + 50)], "no text lives longer for a rotation");
    for at in [NOW + 10, NOW + 20] {
        assert!(vault.revoke(&first.id, at).await.expect("an answer"));
        assert_eq!(vault.contents().await.expect("contents").keys[0].revoked_unix_ms, Some(NOW + 10));
    }
    assert!(!vault.rotate(&first.id, newest, NOW).await.expect("an answer"), "revoked");
    assert!(!vault.revoke("key_nobody", NOW).await.expect("an answer"));
}

async fn of_many_who_begin_at_once_one_is_told_to(kit: Kit) {
    let memory = kit.memory();
    let place = [7; 32];
    let all = (0..8u8).map(|index| {
        let memory = memory.clone();
        async move {
            // A store may be too slow for a request, and says so; then it has to be asked again.
            loop {
                if let Ok(known) = memory.begin(place, [index; 32], NOW).await {
                    return known;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let known = futures_util::future::join_all(all).await;
    let told = known.iter().filter(|known| **known == Known::Nothing).count();
    assert_eq!(told, 1, "{known:?}");
    let others: Vec<_> = known.iter().filter(|known| **known != Known::Nothing).collect();
    assert!(others.iter().all(|known| *known == others[0]), "of the same request: {known:?}");
}

async fn an_answer_is_kept_and_a_released_key_begins_anew(kit: Kit) {
    let memory = kit.memory();
    let (place, other, fingerprint) = ([1; 32], [2; 32], [3; 32]);
    // Busy machines: whoever is told that the store is too slow asks again.
    let begin = async |place, now_ms| loop {
        if let Ok(known) = memory.begin(place, fingerprint, now_ms).await {
            return known;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let until = async |place, wanted: Known| {
        while begin(place, NOW + 1).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(begin(place, NOW).await, Known::Nothing);
    // Whether it is still worked on, only Redis knows.
    let second = begin(place, NOW + 1).await;
    assert!([Known::Begun { fingerprint }, Known::UnderWay { fingerprint }].contains(&second), "{second:?}");
    memory.keep(place, Sealed(vec![0, 1, 255])).await.expect("kept");
    until(place, Known::Answered { fingerprint, answer: Sealed(vec![0, 1, 255]) }).await;
    assert_eq!(begin(other, NOW).await, Known::Nothing);
    memory.release(other).await.expect("released");
    until(other, Known::Nothing).await;
}

async fn an_answer_is_forgotten_after_a_day(kit: Kit) {
    let memory = kit.memory();
    let (place, fingerprint) = ([1; 32], [3; 32]);
    let begin = async |place, now_ms| loop {
        if let Ok(known) = memory.begin(place, fingerprint, now_ms).await {
            return known;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(begin(place, NOW).await, Known::Nothing);
    memory.keep(place, Sealed(vec![1])).await.expect("kept");
    while begin(place, NOW + 1).await != (Known::Answered { fingerprint, answer: Sealed(vec![1]) }) {
        tokio::task::yield_now().await;
    }
    let tomorrow = NOW + i64::try_from(KEPT_FOR.as_millis()).expect("a day");
    assert_eq!(begin(place, tomorrow).await, Known::Nothing, "forgotten");
}
