//! Settings that are tables: one, several of one kind, or names with a text each.

use std::collections::BTreeMap;

use toml::Value;

use super::setting::Declared;
use super::value::Typed;

/// A list of tables, each with the defaults of the settings that it leaves out.
impl<S: Declared> Typed for Vec<S> {
    fn from_value(value: &Value) -> Option<Vec<S>> {
        value.as_array()?.iter().map(|table| of_table(table.as_table()?)).collect()
    }

    fn to_value(&self) -> Option<Value> {
        Some(self.iter().map(|all| Value::Table(all.table())).collect::<Vec<_>>().into())
    }
}

/// A table that needn't be there, with the defaults of what isn't in it.
impl<S: Declared> Typed for Option<S> {
    fn from_value(value: &Value) -> Option<Option<S>> {
        of_table(value.as_table()?).map(Some)
    }

    fn to_value(&self) -> Option<Value> {
        self.as_ref().map(|all| Value::Table(all.table()))
    }
}

impl Typed for BTreeMap<String, String> {
    fn from_value(value: &Value) -> Option<BTreeMap<String, String>> {
        let entries = value.as_table()?.iter();
        entries.map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
    }

    fn to_value(&self) -> Option<Value> {
        Some(Value::Table(self.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect()))
    }
}

fn of_table<S: Declared>(table: &toml::Table) -> Option<S> {
    let mut all = S::default();
    let mut given = S::FIELDS.iter().filter_map(|field| Some((field, table.get(field.setting.key)?)));
    let are_put = given.all(|(field, value)| (field.put)(&mut all, value));
    are_put.then_some(all)
}
