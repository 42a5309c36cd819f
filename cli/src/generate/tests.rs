use std::collections::{BTreeMap, HashSet};

use super::*;

fn policy(text: &str) -> Result<Policy, PolicyError> {
    format!("key:{text}").parse::<Generated>().map(|generated| generated.policy)
}

fn made(text: &str) -> String {
    policy(text).unwrap().generate().expose(str::to_owned)
}

#[test]
fn a_policy_says_length_and_classes_in_any_order() {
    assert_eq!("password".parse::<Generated>().unwrap().policy, Policy::default());
    assert_eq!(policy("6:digits"), policy("digits:6"));
    assert_eq!(policy("lower+upper+lower:32"), policy("letters"));
    assert_eq!(policy("5:words"), Ok(Policy::Words { count: 5 }));
    for text in ["", "0", "2:letters+digits", "5000", "ten", "6:7", "words+digits", "hex+upper"] {
        assert!(policy(text).is_err(), "{text}");
    }
    assert_eq!(":8".parse::<Generated>(), Err(PolicyError::NoKey));
}

#[test]
fn what_is_made_has_its_length_and_one_of_each_class() {
    for _ in 0..200 {
        let pin = made("6:digits");
        assert!(pin.len() == 6 && pin.bytes().all(|byte| byte.is_ascii_digit()), "{pin}");
        let all = made("4:letters+digits+symbols");
        assert!(all.contains(|c: char| c.is_ascii_uppercase()), "{all}");
        assert!(all.contains(|c: char| c.is_ascii_lowercase()), "{all}");
        assert!(all.contains(|c: char| c.is_ascii_digit()), "{all}");
        assert!(all.contains(|c: char| c.is_ascii_punctuation()), "{all}");
    }
    assert_eq!(made("5:words").split('-').count(), 5);
    assert_eq!(made("32").len(), 32);
    let many: HashSet<String> = (0..1_000).map(|_| made("16")).collect();
    assert_eq!(many.len(), 1_000);
}

#[test]
fn each_character_is_as_likely() {
    // 100,000 digits: each is expected 10,000 times with a deviation of 95; six of them is one
    // failure in a hundred million runs.
    let mut counts = BTreeMap::new();
    for _ in 0..25 {
        made("4000:digits").chars().for_each(|char| *counts.entry(char).or_insert(0_i32) += 1);
    }
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| (count - 10_000).abs() < 570), "{counts:?}");
}

#[test]
fn the_strength_counts_what_can_be_made() {
    let bits = |text| policy(text).unwrap().bits();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(bits("6:digits"), 1e6_f64.log2()));
    assert!(near(bits("8:hex"), 32.0));
    assert!(near(bits("5:words"), 55.0));
    // Two characters of lower and digits with one of each: 2 * 26 * 10.
    assert!(near(bits("2:lower+digits"), 520_f64.log2()));
    assert_eq!(Policy::default().to_string(), "32 characters, 190 bits");
    assert_eq!(policy("1:words").unwrap().to_string(), "1 word, 11 bits");
}

#[test]
fn the_words_differ_and_are_short() {
    let words: HashSet<&str> = WORDS.lines().collect();
    assert_eq!(words.len(), 2_048);
    assert!(words.iter().all(|word| (3..=8).contains(&word.len())));
    let beginnings: HashSet<&str> = words.iter().map(|word| &word[..word.len().min(4)]).collect();
    assert_eq!(beginnings.len(), 2_048);
}
