//! Whether a Sentinel lets its user have it elected and a failover begun. Nothing comes of the questions: nobody votes in
//! epoch 0, and no Sentinel has a master without a name.

use std::time::Duration;

use super::look::{questions, to_begin};
use crate::evidence::Site;
use crate::redis::{Lines, NoAnswer, Server, Words, ask};

/// A master that no Sentinel has.
const NO_MASTER: &str = "";

/// Returns the rights, as ACL rules, that the user lacks at a Sentinel which answers within this time.
///
/// # Errors
///
/// A Sentinel that did not answer.
pub async fn lacking(
    server: &Server,
    name: &str,
    master: &Site,
    within: Duration,
) -> Result<Vec<String>, NoAnswer> {
    let questions = all_questions(name, master);
    let answers = ask(server, &Lines::default(), &questions, within).await?;
    let missing = questions.iter().zip(answers);
    let missing = missing.filter(|(_, said)| matches!(said, Err(NoAnswer::NotAllowed(_))));
    Ok(missing.map(|(question, _)| right(question)).collect())
}

fn all_questions(name: &str, master: &Site) -> Vec<Words> {
    let mut all = questions(name, master);
    all.push(to_begin(NO_MASTER));
    all
}

/// Returns the right that a question needs, as an ACL rule.
fn right(question: &Words) -> String {
    let words: Vec<String> = question.iter().map(|word| word.to_lowercase()).collect();
    match words.as_slice() {
        [command, what, ..] if command == "sentinel" => format!("+{command}|{what}"),
        [command, ..] => format!("+{command}"),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::sites::endpoint;

    #[test]
    fn each_question_names_the_right_that_it_needs() {
        let master = Site {
            endpoint: endpoint("192.168.56.101", 8000).unwrap(),
            addresses: Vec::new(),
            run_id: None,
            place: Ok(crate::place::Place::Elsewhere),
        };
        let rights: Vec<String> = all_questions("m", &master).iter().map(right).collect();
        let documented = include_str!("../../packaging/documents/after.md");
        for right in rights {
            let right = right.replace('|', "\\|");
            assert!(
                documented.contains(right.trim_start_matches('+')),
                "{right}"
            );
        }
    }
}
