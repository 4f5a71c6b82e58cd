"""The commands of a mailbox process: one row each. A file is named after its command; families share one."""

from __future__ import annotations

from atoll.protocols.imap.command import Command, State, nothing
from atoll.protocols.imap.commands import (
    acl,
    append,
    authenticate,
    capability,
    close,
    copy,
    create,
    delete,
    enable,
    expunge,
    fetch,
    idle,
    logout,
    namespace,
    noop,
    quota,
    rename,
    search,
    select,
    sort,
    status,
    store,
    subscribe,
    thread,
)
from atoll.protocols.imap.commands import id as identify
from atoll.protocols.imap.commands import list as listing
from atoll.protocols.imap.wire import client_id

_AUTH, _SELECTED = State.AUTHENTICATED, State.SELECTED

COMMANDS: dict[str, Command] = {
    # any state
    "CAPABILITY": Command(nothing, capability.run, State.ANY),
    "NOOP": Command(nothing, noop.run, State.ANY),
    "LOGOUT": Command(nothing, logout.run, State.ANY),
    "ID": Command(client_id.parse, identify.run, State.ANY),
    "AUTHENTICATE": Command(authenticate.parse, authenticate.run, State.NOT_AUTHENTICATED),
    # signed in
    "ENABLE": Command(enable.parse, enable.run, _AUTH),
    "SELECT": Command(select.parse, select.run, _AUTH),
    "EXAMINE": Command(select.parse, select.run_examine, _AUTH),
    "CREATE": Command(create.parse, create.run, _AUTH),
    "DELETE": Command(delete.parse, delete.run, _AUTH),
    "RENAME": Command(rename.parse, rename.run, _AUTH),
    "SUBSCRIBE": Command(delete.parse, subscribe.run_subscribe, _AUTH),
    "UNSUBSCRIBE": Command(delete.parse, subscribe.run_unsubscribe, _AUTH),
    "LIST": Command(listing.parse, listing.run, _AUTH),
    "LSUB": Command(listing.parse_lsub, listing.run_lsub, _AUTH),
    "NAMESPACE": Command(nothing, namespace.run, _AUTH),
    "STATUS": Command(status.parse, status.run, _AUTH),
    "APPEND": Command(append.parse, append.run, _AUTH),
    "IDLE": Command(nothing, idle.run, _AUTH),
    "GETQUOTA": Command(quota.parse_root, quota.run, _AUTH),
    "GETQUOTAROOT": Command(delete.parse, quota.run_root, _AUTH),
    "SETQUOTA": Command(quota.parse_set, quota.run_set, _AUTH),
    "SETACL": Command(acl.parse_set, acl.run_set, _AUTH),
    "DELETEACL": Command(acl.parse_two, acl.run_delete, _AUTH),
    "GETACL": Command(delete.parse, acl.run_get, _AUTH),
    "LISTRIGHTS": Command(acl.parse_two, acl.run_list, _AUTH),
    "MYRIGHTS": Command(delete.parse, acl.run_my, _AUTH),
    # a mailbox selected; while sequence numbers are in use they do not change [RFC 9051 §7.5.1]
    "CHECK": Command(nothing, noop.run, _SELECTED),
    "CLOSE": Command(nothing, close.run, _SELECTED),
    "UNSELECT": Command(nothing, close.run_unselect, _SELECTED),
    "EXPUNGE": Command(nothing, expunge.run, _SELECTED),
    "UID EXPUNGE": Command(expunge.parse_uid, expunge.run, _SELECTED),
    "SEARCH": Command(search.parse, search.run_search, _SELECTED, expunges=False),
    "UID SEARCH": Command(search.parse, search.run_uid_search, _SELECTED),
    "SORT": Command(sort.parse, sort.run_sort, _SELECTED, expunges=False),
    "UID SORT": Command(sort.parse, sort.run_uid_sort, _SELECTED),
    "THREAD": Command(thread.parse, thread.run_thread, _SELECTED, expunges=False),
    "UID THREAD": Command(thread.parse, thread.run_uid_thread, _SELECTED),
    "FETCH": Command(fetch.parse, fetch.run_fetch, _SELECTED, expunges=False),
    "UID FETCH": Command(fetch.parse, fetch.run_uid_fetch, _SELECTED),
    "STORE": Command(store.parse, store.run_store, _SELECTED, expunges=False),
    "UID STORE": Command(store.parse, store.run_uid_store, _SELECTED),
    "COPY": Command(copy.parse, copy.run_copy, _SELECTED),
    "UID COPY": Command(copy.parse, copy.run_uid_copy, _SELECTED),
    "MOVE": Command(copy.parse, copy.run_move, _SELECTED),
    "UID MOVE": Command(copy.parse, copy.run_uid_move, _SELECTED),
}
