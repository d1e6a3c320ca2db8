//! Secrets: from a file or the environment, and never shown.

use std::fmt;

use super::Surroundings;
use crate::document::Section;

/// A password or key. Neither logs nor error texts show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who is to be convinced by it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The password that `password_file` or `password_env` leads to.
pub(super) fn read_password(section: &mut Section<'_>, around: &Surroundings<'_>) -> Option<Secret> {
    read_secret(section, ["password", "password_file", "password_env"], around)
}

/// The secret that a key for a file or one for a variable leads to; `plain` is how people would write it down here.
pub(super) fn read_secret(
    section: &mut Section<'_>,
    [plain, file, env]: [&'static str; 3],
    around: &Surroundings<'_>,
) -> Option<Secret> {
    let why = format!(
        "would put a secret into this file; give `{file}`, a file that holds nothing else, or `{env}`, the name of an \
         environment variable"
    );
    section.forbid(plain, &why);
    let from_file = section.parsed(file, |text| {
        let path = around.path(text);
        let secret =
            std::fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        // Editors and `echo` end a file with a line feed that is no part of the secret.
        let secret = secret.strip_suffix('\n').unwrap_or(&secret);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Secret::new(secret)) }
    });
    let from_environment = section.parsed(env, |name| match (around.variable)(name) {
        Some(value) if !value.is_empty() => Ok(Secret::new(value)),
        _ => Err(format!("names `{name}`, which the environment does not hold")),
    });
    if section.has(file) && section.has(env) {
        section.refuse(env, format_args!("stands beside `{file}`; one of them is enough"));
    }
    from_file.or(from_environment)
}
