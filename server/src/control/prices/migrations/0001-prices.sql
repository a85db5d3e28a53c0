-- The price book: its immutable editions, the operator's overrides, and which of them are in force. Locks nothing:
-- everything is new.

-- One row for each edition of the price data that was ever in force. Never changed, so that a version that stands on an
-- old record can be looked up. `content` is text because its hash is over its bytes.
create table platform.price_books (
  name text primary key check (name <> ''),
  content text not null,
  content_hash text not null,
  created_at timestamptz not null default clock_timestamp()
);

-- One row. `revision` grows with every change, under this row's lock, so that other processes see by one row whether
-- anything changed, in the order of commits. `book` is null until the first process has brought its price data.
create table platform.price_state (
  only_row boolean primary key default true check (only_row),
  revision bigint not null default 0 check (revision >= 0),
  book text references platform.price_books
);
insert into platform.price_state default values;

-- One row for each revision, never changed: a version such as `genai-prices-0.1.8+3` is the book of revision 3 and
-- every override up to it.
create table platform.price_revisions (
  revision bigint primary key,
  book text not null references platform.price_books,
  kind text not null check (kind in ('seed', 'override', 'removal', 'import')),
  created_by text not null,
  created_at timestamptz not null default clock_timestamp()
);

-- Overrides, appended only: what a revision states about a subject. `terms` null takes the override back.
create table platform.prices (
  revision bigint not null references platform.price_revisions,
  price_id text not null check (price_id <> ''),
  target text,
  provider text,
  model text,
  terms text,
  valid_from timestamptz not null,
  note text,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (price_id, revision),
  check ((target is null) <> (model is null)),
  check (target is null or provider is null)
);

select platform.protect_platform_table('platform.price_books', operator_verbs => 'select, insert', system_verbs => 'select, insert');
select platform.protect_platform_table('platform.price_state', operator_verbs => 'select, update', system_verbs => 'select, update');
select platform.protect_platform_table('platform.price_revisions', operator_verbs => 'select, insert', system_verbs => 'select, insert');
select platform.protect_platform_table('platform.prices', operator_verbs => 'select, insert', system_verbs => 'select');
