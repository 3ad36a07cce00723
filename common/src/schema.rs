//! The tables, as diesel sees them. The migrations in `writer/migrations` make them;
//! `docs/schema.md` explains them.

#![expect(missing_docs, reason = "what the macro writes cannot be documented")]

diesel::table! {
    users (user_id) {
        user_id -> Uuid,
        email -> Nullable<Text>,
        name -> Nullable<Text>,
        created_at -> Timestamptz,
        email_claim -> Nullable<Text>,
        email_as_of -> Nullable<Timestamptz>,
        name_as_of -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webstates (html_hash) {
        html_hash -> Text,
        html_content -> Nullable<Bytea>,
        captured_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    replays (replay_id) {
        replay_id -> Uuid,
        user_id -> Uuid,
        start_time -> Timestamptz,
        end_time -> Nullable<Timestamptz>,
        initial_url -> Text,
        user_as_of -> Timestamptz,
    }
}

diesel::table! {
    events (event_id) {
        event_id -> Uuid,
        replay_id -> Uuid,
        timestamp -> Timestamptz,
        event_type -> Text,
        event_data -> Json,
        webstate_hash -> Nullable<Text>,
    }
}

diesel::table! {
    monthly_reports (report_id) {
        report_id -> Int8,
        report_month_start -> Date,
        new_users_count -> Int8,
        total_users_end -> Int8,
        new_replays_count -> Int8,
        total_replays_end -> Int8,
        generated_at -> Timestamptz,
    }
}

diesel::joinable!(replays -> users (user_id));
diesel::joinable!(events -> replays (replay_id));
diesel::joinable!(events -> webstates (webstate_hash));
diesel::allow_tables_to_appear_in_same_query!(users, webstates, replays, events);
