//! Templates: what CRM administrators write, and what they can see.
//!
//! A folder of payload templates (`*.json`, every string a Handlebars template) and text templates
//! (`*.html.hbs`, `*.txt.hbs`, …) is compiled once against the [`Shape`] of the data, so that every fault is
//! a diagnostic before the first mail; rendering then is pure. Values are data, never template: what a note
//! says can't end a string, open a tag or add a line to a header. Handlebars is the crate `handlebars`;
//! what is ours is the places (`syntax`), the checks (`lint`), the helpers and the escaping.

pub mod route;
pub mod context;
pub mod shape;
mod origin;
mod json_file;
mod syntax;
mod helpers;
mod escape;
mod engine;
mod lint;
mod leaf;
mod payload;
pub mod render;
pub mod inline;
pub mod fields;

pub use context::{Context, Extras, Metadata};
pub use fields::{Field, FieldEntry, FieldMap, OwnValue};
pub use inline::{Inline, Place};
pub use render::{RenderFault, Templates};
pub use shape::{Kind, Shape};
