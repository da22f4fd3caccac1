//! The OpenAI chat vocabulary: requests, messages, answers, chunks and usage, as plain values.
//!
//! Nothing here knows a provider, a price or a socket. Members that we do not know are kept as raw JSON and written
//! back in place, because clients and providers are newer than we are.

mod assembly;
mod chunk;
pub mod depth;
pub mod destination;
mod edit; // members put in place of others
mod message;
mod native;
mod object;
mod prompt;
mod recalled;
mod request;
mod response;
mod sequence;
mod size; // what is sent beside the messages
mod usage;

pub use assembly::{Assembly, replay};
pub use chunk::{Chunk, ChunkChoice, Delta, Seal, ToolCallDelta};
pub use message::{Content, Message, Part, Role, ToolCall};
pub use native::{Dialect, Embed, Inputs, Native};
pub use object::{Extra, Object, object};
pub use prompt::Prompt;
pub use recalled::{EXTRA_CONTENT, Recalled, Signed, THINKING_BLOCKS};
pub use request::{Invalid, Request, ResponseFormat};
pub use response::{Choice, Finish, Reply, Response, Vector};
pub use sequence::{Cut, MAX_CHOICES, Sequence};
pub use usage::Usage;
