//! One kind of CRM as a folder: manifest, templates, reply table. Pure: it plans requests and judges
//! answers; `sender` sends them.

pub mod http;
