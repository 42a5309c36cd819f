//! Values as other languages write them, so that they read back what they are, whatever that is.

use kista::{client::JsonValue, secret::SecretString};

/// One word of a POSIX shell (POSIX.1-2024 XCU §2.2.2).
pub(crate) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A value of a `NAME=value` file: bare where that is safe, in single quotes on one line, else in
/// double quotes. `dotenv.rs` reads it back; so do most loaders.
pub(crate) fn dotenv(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+,-=".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    if !text.contains(['\'', '\n', '\r']) {
        return format!("'{text}'");
    }
    let mut quoted = String::with_capacity(2 * text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '\n' => quoted.push_str(r"\n"),
            '\r' => quoted.push_str(r"\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', char]),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// A value in YAML's flow style: its JSON, with what YAML takes for unprintable (YAML 1.2.2 §5.1)
/// or for a line break spelled out. Such characters stand inside strings only.
pub(crate) fn yaml(value: &JsonValue) -> SecretString {
    value.expose_json(|json| {
        let mut text = String::with_capacity(json.len());
        for char in json.chars() {
            match char {
                '\u{7f}'..='\u{9f}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(char)));
                }
                other => text.push(other),
            }
        }
        SecretString::from_string(text)
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::dotenv;

    /// What breaks quoting somewhere.
    const HOSTILE: [&str; 20] = [
        "",
        "plain",
        " a b ",
        "it's",
        "'",
        "''",
        "\"",
        "\\",
        "\\\\n\\",
        "$HOME ${HOME} $(id) $$",
        "`id`",
        "a\nb\n",
        "\r\n",
        "it's\n$HOME `id` \"x\" \\",
        "#no comment",
        "a #b",
        "!history *glob? [a-z] ~ & | ; < > (x)",
        "åäö 🚲 \u{2028}\u{85}\u{feff}",
        "\u{1b}[31m\t\u{7f}",
        "export A=b",
    ];

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let mut script = String::new();
        for text in HOSTILE {
            script.push_str(&format!("export A={}\nprintf '%s\\0' \"$A\"\n", shell(text)));
        }
        let mut sh =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = sh.wait_with_output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read, HOSTILE.map(|text| format!("{text}\0")).concat());
    }

    #[test]
    fn the_reader_of_dotenv_reads_back_what_was_quoted() {
        let file: String = HOSTILE
            .iter()
            .enumerate()
            .map(|(n, text)| format!("A{n}={}\n", dotenv(text)))
            .collect();
        let read = dotenv::parse(&file).unwrap();
        for (variable, text) in read.iter().zip(HOSTILE) {
            assert!(variable.value.expose(|value| value == text), "{text:?}: {}", dotenv(text));
        }
        assert_eq!(read.len(), HOSTILE.len());
    }

    #[test]
    fn yaml_keeps_the_value_and_holds_nothing_unprintable() {
        for text in HOSTILE {
            let value = JsonValue::string(&SecretString::copy_of(text));
            yaml(&value).expose(|yaml| {
                assert_eq!(serde_json::from_str::<String>(yaml).unwrap(), text);
                assert!(!yaml.contains(|char: char| char.is_control() || char == '\u{2028}'));
            });
        }
        let json = r#"{"a":[1.10,null,"\u0000"]}"#;
        let value = JsonValue::parse(SecretString::copy_of(json)).unwrap();
        yaml(&value).expose(|yaml| assert_eq!(yaml, json));
    }
}
