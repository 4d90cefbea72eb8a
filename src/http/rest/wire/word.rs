//! Enums that are written as one lower-case word.

/// Declares the wire form of a domain enum without data: the same variants, written as snake_case words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident = $domain:ty { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }
        impl $name {
            /// Returns the word.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        }
        impl From<$domain> for $name {
            fn from(value: $domain) -> $name {
                match value {
                    $(<$domain>::$variant => $name::$variant),+
                }
            }
        }
        impl From<$name> for $domain {
            fn from(value: $name) -> $domain {
                match value {
                    $($name::$variant => <$domain>::$variant),+
                }
            }
        }
    };
}

pub(super) use words;
