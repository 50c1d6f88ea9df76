/*
 * Copyright (C) nginx-ims contributors
 *
 * The rows: decoding with every length checked, and what is read off them.
 */

#include <errno.h>

#include "ims_pool_int.h"


/* fixed part of a row of `name` */
typedef struct {
    uint64_t  ident;
    uint32_t  import_no;
    uint16_t  nimpu;
    uint16_t  flags;
    uint16_t  nimpi;
    uint16_t  ndisplay;
    uint16_t  nuser;            /* user in clear; none yet */
    uint16_t  pad;
} ims_pool_names_head_t;

_Static_assert(sizeof(ims_pool_names_head_t) == 24, "no holes");

typedef struct {
    uint16_t  ngiven;
    uint16_t  ncanon;           /* IMS_POOL_AS_GIVEN: equal to given */
} ims_pool_names_impu_t;

#define IMS_POOL_AS_GIVEN    0xffff


const char *const  ims_pool_tree_names[IMS_POOL_TREES] = {
    "meta", "pool", "poolname", "ident", "renewal", "name", "uri", "avail",
    "hist", "feed", "reg", "key", "import", "stat", "jwks"
};


const char *
ims_pool_strerror(int rc)
{
    switch (rc) {
    case IMS_POOL_MORE:           return "more to come";
    case IMS_POOL_OK:             return "ok";
    case IMS_POOL_NOTFOUND:       return "not found";
    case IMS_POOL_UNKNOWN:        return "unknown";
    case IMS_POOL_REOPEN:         return "environment given up";
    case IMS_POOL_GAP:            return "feed rows missed";
    case IMS_POOL_NOT_THERE:      return "not there yet";
    case IMS_POOL_NOT_OURS:       return "not ours";
    case IMS_POOL_SCHEMA_DIFFERS: return "made by another version";
    case IMS_POOL_OTHER_KERNEL:   return "other boot or namespace";
    case IMS_POOL_NO_ACCESS:      return "no access";
    case IMS_POOL_LOCKED:         return "another pool manager runs";
    case IMS_POOL_FILESYSTEM:     return "file system not allowed";
    case IMS_POOL_SYSTEM:         return "system call failed";
    case IMS_POOL_EXHAUSTED:      return "exhausted";
    case IMS_POOL_ENDED:          return "ended";
    case IMS_POOL_HOLD:           return "hold";
    case IMS_POOL_DENIED:         return "denied";
    case IMS_POOL_NOPOOL:         return "no such pool";
    case IMS_POOL_EXISTS:         return "exists";
    case IMS_POOL_BADARG:         return "bad argument";
    case IMS_POOL_BUSY:           return "busy";
    case IMS_POOL_NOTEMPTY:       return "not empty";
    case IMS_POOL_NOSPACE:        return "no space";
    case IMS_POOL_INTERNAL:       return "internal error";
    default:                      return "?";
    }
}


bool
ims_pool_row_open(const MDB_val *key, const MDB_val *val, ims_str_t *row)
{
    size_t    n;
    uint32_t  crc, stored;

    if (val->mv_size < IMS_POOL_CRC_LEN) {
        return false;
    }

    n = val->mv_size - IMS_POOL_CRC_LEN;
    memcpy(&stored, (const uint8_t *) val->mv_data + n, IMS_POOL_CRC_LEN);

    crc = ims_pool_crc32c(0, key->mv_data, key->mv_size);
    crc = ims_pool_crc32c(crc, val->mv_data, n);

    *row = ims_str_set(val->mv_data, n);

    return crc == stored;
}


int
ims_pool_row(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t nkey,
    ims_str_t *row)
{
    int      rc;
    MDB_val  k, v;

    k.mv_size = nkey;
    k.mv_data = (void *) key;

    rc = mdb_get(txn, dbi, &k, &v);

    if (rc == MDB_NOTFOUND) {
        return IMS_POOL_NOTFOUND;
    }

    if (rc != 0 || !ims_pool_row_open(&k, &v, row)) {
        return IMS_POOL_UNKNOWN;
    }

    return IMS_POOL_OK;
}


int
ims_pool_row_copy(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t nkey,
    void *out, size_t n)
{
    int        rc;
    ims_str_t  row;

    rc = ims_pool_row(txn, dbi, key, nkey, &row);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (row.n != n) {
        return IMS_POOL_UNKNOWN;
    }

    memcpy(out, row.p, n);

    return IMS_POOL_OK;
}


bool
ims_pool_rec_decode(ims_str_t row, uint64_t ident, ims_pool_rec_t *rec)
{
    if (row.n < ims_pool_rec_bytes(0) || row.n > sizeof(ims_pool_rec_t)) {
        return false;
    }

    memcpy(rec, row.p, row.n);
    memset((uint8_t *) rec + row.n, 0, sizeof(ims_pool_rec_t) - row.n);

    return rec->ident == ident && rec->nsession <= IMS_POOL_SESSIONS
           && row.n == ims_pool_rec_size(rec);
}


bool
ims_pool_pool_decode(ims_str_t row, uint32_t number, ims_pool_t *pool)
{
    const uint8_t    *p;
    ims_pool_head_t  *h;

    h = &pool->head;

    if (row.n < sizeof(ims_pool_head_t)) {
        return false;
    }

    memcpy(h, row.p, sizeof(ims_pool_head_t));

    if (h->pool != number || h->nname > IMS_POOL_NAME_MAX
        || h->nhome > IMS_POOL_HOME_MAX || h->nrealms > IMS_POOL_REALMS_MAX
        || row.n != sizeof(ims_pool_head_t) + h->nname + h->nhome
                    + h->nrealms)
    {
        return false;
    }

    p = row.p + sizeof(ims_pool_head_t);

    memcpy(pool->name, p, h->nname);
    pool->name[h->nname] = '\0';
    p += h->nname;

    memcpy(pool->home, p, h->nhome);
    pool->home[h->nhome] = '\0';
    p += h->nhome;

    memcpy(pool->realms, p, h->nrealms);
    pool->realms[h->nrealms] = '\0';

    return true;
}


int
ims_pool_pool(MDB_txn *txn, const MDB_dbi *dbi, uint32_t number,
    ims_pool_t *pool)
{
    int        rc;
    uint8_t    key[4];
    ims_str_t  row;

    ims_pool_be32(key, number);

    rc = ims_pool_row(txn, dbi[IMS_POOL_T_POOL], key, sizeof(key), &row);

    if (rc == IMS_POOL_OK && !ims_pool_pool_decode(row, number, pool)) {
        return IMS_POOL_UNKNOWN;
    }

    return rc;
}


/*
 * Cuts n bytes off the text behind the lengths.  False if there are fewer:
 * the CRC is right, but a row is never believed further than it reaches.
 */
static bool
ims_pool_cut(ims_str_t *text, size_t n, ims_str_t *out)
{
    if (n > text->n) {
        return false;
    }

    *out = ims_str_set(text->p, n);
    text->p += n;
    text->n -= n;

    return true;
}


bool
ims_pool_names_decode(ims_str_t row, uint64_t ident, ims_pool_names_t *names)
{
    size_t                 at;
    unsigned               i;
    ims_str_t              text, user;
    ims_pool_names_head_t  h;
    ims_pool_names_impu_t  len[IMS_POOL_IMPUS];

    if (row.n < sizeof(h) || row.n > sizeof(names->buf)) {
        return false;
    }

    memcpy(names->buf, row.p, row.n);
    memcpy(&h, names->buf, sizeof(h));

    at = sizeof(h) + h.nimpu * sizeof(ims_pool_names_impu_t);

    if (h.ident != ident || h.nimpu > IMS_POOL_IMPUS || at > row.n) {
        return false;
    }

    memcpy(len, names->buf + sizeof(h), at - sizeof(h));
    text = ims_str_set(names->buf + at, row.n - at);

    names->ident = ident;
    names->nimpu = h.nimpu;

    if (!ims_pool_cut(&text, h.nimpi, &names->impi)
        || !ims_pool_cut(&text, h.ndisplay, &names->display)
        || !ims_pool_cut(&text, h.nuser, &user))
    {
        return false;
    }

    for (i = 0; i < h.nimpu; i++) {

        if (!ims_pool_cut(&text, len[i].ngiven, &names->impu[i].given)) {
            return false;
        }

        if (len[i].ncanon == IMS_POOL_AS_GIVEN) {
            names->impu[i].canon = names->impu[i].given;

        } else if (!ims_pool_cut(&text, len[i].ncanon,
                                 &names->impu[i].canon))
        {
            return false;
        }
    }

    return text.n == 0;
}


static uint8_t *
ims_pool_append(uint8_t *p, const uint8_t *last, ims_str_t s)
{
    if (p == NULL || s.n > (size_t) (last - p)) {
        return NULL;
    }

    if (s.n) {
        memcpy(p, s.p, s.n);
    }

    return p + s.n;
}


size_t
ims_pool_names_encode(const ims_pool_names_t *names, uint32_t import_no,
    uint8_t *dst, size_t cap)
{
    uint8_t               *p, *last;
    unsigned               i;
    ims_pool_names_head_t  h;
    ims_pool_names_impu_t  len[IMS_POOL_IMPUS];

    memset(&h, 0, sizeof(h));

    h.ident = names->ident;
    h.import_no = import_no;
    h.nimpu = (uint16_t) names->nimpu;
    h.nimpi = (uint16_t) names->impi.n;
    h.ndisplay = (uint16_t) names->display.n;

    for (i = 0; i < names->nimpu; i++) {
        len[i].ngiven = (uint16_t) names->impu[i].given.n;
        len[i].ncanon = ims_str_eq(names->impu[i].given, names->impu[i].canon)
                        ? IMS_POOL_AS_GIVEN
                        : (uint16_t) names->impu[i].canon.n;
    }

    last = dst + cap;

    p = ims_pool_append(dst, last, ims_str_set(&h, sizeof(h)));
    p = ims_pool_append(p, last, ims_str_set(len, i * sizeof(len[0])));
    p = ims_pool_append(p, last, names->impi);
    p = ims_pool_append(p, last, names->display);

    for (i = 0; i < names->nimpu; i++) {
        p = ims_pool_append(p, last, names->impu[i].given);

        if (len[i].ncanon != IMS_POOL_AS_GIVEN) {
            p = ims_pool_append(p, last, names->impu[i].canon);
        }
    }

    return p == NULL ? 0 : (size_t) (p - dst);
}


int
ims_pool_state(MDB_txn *txn, const MDB_dbi *dbi, ims_pool_state_t *state)
{
    int        rc;
    size_t     n;
    ims_str_t  row;

    rc = ims_pool_row(txn, dbi[IMS_POOL_T_META], IMS_POOL_STATE_KEY,
                      sizeof(IMS_POOL_STATE_KEY) - 1, &row);

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_NOT_OURS : rc;
    }

    /* magic and versions stand at the same place in every schema */

    memset(state, 0, sizeof(ims_pool_state_t));
    n = row.n < sizeof(ims_pool_state_t) ? row.n : sizeof(ims_pool_state_t);
    memcpy(state, row.p, n);

    if (memcmp(state->magic, IMS_POOL_MAGIC, sizeof(state->magic)) != 0) {
        return IMS_POOL_NOT_OURS;
    }

    if (state->min_reader > IMS_POOL_SCHEMA || state->schema < IMS_POOL_SCHEMA
        || (state->schema == IMS_POOL_SCHEMA
            && row.n != sizeof(ims_pool_state_t)))
    {
        return IMS_POOL_SCHEMA_DIFFERS;
    }

    return IMS_POOL_OK;
}


/* that of records is searched at each message: its keys are numbers to LMDB */

static const unsigned  ims_pool_tree_flags[IMS_POOL_TREES] = {
    [IMS_POOL_T_IDENT] = MDB_INTEGERKEY
};

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "keys of a machine's word");


int
ims_pool_trees(MDB_txn *txn, MDB_dbi *dbi, unsigned flags)
{
    int               rc, i;
    unsigned          has;
    ims_pool_state_t  state;

    for (i = 0; i < IMS_POOL_TREES; i++) {
        rc = mdb_dbi_open(txn, ims_pool_tree_names[i],
                          flags | ims_pool_tree_flags[i], &dbi[i]);

        /* a tree that is there stays as it was made, and finds nothing then */

        if (rc == 0) {
            rc = mdb_dbi_flags(txn, dbi[i], &has);

            if (rc == 0 && has != ims_pool_tree_flags[i]) {
                rc = MDB_VERSION_MISMATCH;
            }
        }

        if (rc == MDB_NOTFOUND && i > IMS_POOL_T_META
            && ims_pool_state(txn, dbi, &state) == IMS_POOL_SCHEMA_DIFFERS)
        {
            return MDB_VERSION_MISMATCH;
        }

        if (rc != 0) {
            return rc;
        }
    }

    return 0;
}


int
ims_pool_env_whole(MDB_env *env)
{
    int               rc;
    MDB_stat          st;
    MDB_envinfo       info;
    struct stat       sb;
    mdb_filehandle_t  fd;

    rc = mdb_env_get_fd(env, &fd);

    if (rc == 0) {
        rc = mdb_env_info(env, &info);
    }

    if (rc == 0) {
        rc = mdb_env_stat(env, &st);
    }

    if (rc != 0) {
        return rc;
    }

    if (fstat(fd, &sb) == -1) {
        return errno;
    }

    return (uint64_t) sb.st_size / st.ms_psize > info.me_last_pgno
           ? 0 : MDB_CORRUPTED;
}


size_t
ims_pool_impi_key(uint8_t *key, size_t cap, ims_str_t impi)
{
    size_t  i;

    if (impi.n == 0 || impi.n + 1 > cap) {
        return 0;
    }

    key[0] = '\0';

    for (i = 0; i < impi.n; i++) {
        key[i + 1] = ims_lower(impi.p[i]);
    }

    return impi.n + 1;
}


void
ims_pool_lease_format(uint8_t *dst, uint64_t ident, uint64_t lease)
{
    uint8_t  be[8];

    ims_pool_be64(be, ident);
    ims_hex_encode(dst, be, sizeof(be));

    dst[16] = '-';

    ims_pool_be64(be, lease);
    ims_hex_encode(dst + 17, be, sizeof(be));
}


bool
ims_pool_lease_parse(ims_str_t s, uint64_t *ident, uint64_t *lease)
{
    uint8_t   text[IMS_POOL_LEASE_TEXT];
    uint64_t  i, l;

    if (s.n != IMS_POOL_LEASE_TEXT
        || !ims_hex_u64(ims_str_set(s.p, 16), &i)
        || !ims_hex_u64(ims_str_set(s.p + 17, 16), &l)
        || i == 0 || l == 0)
    {
        return false;
    }

    /* one lease has one text: no upper case, no other separator */

    ims_pool_lease_format(text, i, l);

    if (memcmp(text, s.p, s.n) != 0) {
        return false;
    }

    *ident = i;
    *lease = l;

    return true;
}


ims_pool_lapse_e
ims_pool_check_lease(const ims_pool_look_t *look, uint64_t lease,
    uint64_t sid, const uint8_t *holder, uint64_t pt, uint64_t *end)
{
    unsigned               i;
    const ims_pool_rec_t  *rec;

    rec = &look->rec;

    if (lease == 0 || rec->lease != lease) {
        return IMS_POOL_LAPSE_OTHER;
    }

    if (!ims_equal_ct(rec->holder, holder, IMS_POOL_HOLDER_LEN)) {
        return IMS_POOL_LAPSE_HOLDER;
    }

    if (rec->flags & IMS_POOL_F_OFF) {
        return IMS_POOL_LAPSE_OFF;
    }

    if (lease <= look->fence) {
        return IMS_POOL_LAPSE_FENCED;
    }

    if (pt >= rec->end) {
        return IMS_POOL_LAPSE_ENDED;
    }

    for (i = 0; i < rec->nsession; i++) {
        if (rec->session[i].sid == sid) {
            break;
        }
    }

    if (i == rec->nsession) {
        return IMS_POOL_LAPSE_SID;
    }

    if (pt >= rec->session[i].end) {
        return IMS_POOL_LAPSE_SID_ENDED;
    }

    if (end != NULL) {
        *end = rec->session[i].end;
    }

    return IMS_POOL_LIVE;
}


const char *
ims_pool_lapse_text(ims_pool_lapse_e lapse)
{
    static const char *const  text[] = {
        "live", "other lease", "identity off", "fenced", "ended",
        "session gone", "session ended", "other holder"
    };

    return (size_t) lapse < sizeof(text) / sizeof(text[0]) ? text[lapse] : "?";
}
