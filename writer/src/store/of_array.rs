//! A statement about an array, prepared once a session. What diesel's own `sql_query` is given, it
//! has prepared and planned anew each time.

use std::marker::PhantomData;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType};

/// A statement whose one parameter is an array of `S`.
pub(super) struct OfArray<'a, S, T> {
    /// What stands before and after the parameter.
    text: [&'static str; 2],
    array: &'a [T],
    item: PhantomData<S>,
}

impl<'a, S, T> OfArray<'a, S, T> {
    pub(super) const fn new(text: [&'static str; 2], array: &'a [T]) -> Self {
        Self { text, array, item: PhantomData }
    }
}

impl<S: 'static, T> QueryFragment<Pg> for OfArray<'_, S, T>
where
    Pg: HasSqlType<Array<S>>,
    for<'a> &'a [T]: ToSql<Array<S>, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let [before, after] = self.text;
        out.push_sql(before);
        out.push_bind_param::<Array<S>, _>(&self.array)?;
        out.push_sql(after);
        Ok(())
    }
}

impl<S, T> QueryId for OfArray<'_, S, T> {
    type QueryId = ();
    /// One type stands for several texts: the text is what tells them apart.
    const HAS_STATIC_QUERY_ID: bool = false;
}
