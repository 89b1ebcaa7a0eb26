//! Settings that are lists of tables of one kind.

use toml::Value;

use super::setting::Declared;
use super::value::Typed;

/// A list of tables, each with the defaults of the settings that it leaves out.
impl<S: Declared> Typed for Vec<S> {
    fn from_value(value: &Value) -> Option<Vec<S>> {
        let tables = value.as_array()?.iter().map(Value::as_table);
        let of = |table: &toml::Table| {
            let mut all = S::default();
            let mut given = S::FIELDS.iter().filter_map(|field| Some((field, table.get(field.setting.key)?)));
            let are_put = given.all(|(field, value)| (field.put)(&mut all, value));
            are_put.then_some(all)
        };
        tables.map(|table| of(table?)).collect()
    }

    fn to_value(&self) -> Option<Value> {
        Some(self.iter().map(|all| Value::Table(all.table())).collect::<Vec<_>>().into())
    }
}
