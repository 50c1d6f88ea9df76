/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_secret.h.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ims_hmac.h"
#include "mgr_secret.h"


#define MGR_SECRET_MIN   16
#define MGR_SECRET_MAX   128
#define MGR_SECRET_LINE  4096


static int mgr_secrets_file(mgr_secret_t **list, const char *path, uid_t owner,
    char *err, size_t errlen);
static mgr_secret_t *mgr_secret_line(char *line, const char **why);
static bool mgr_secret_list(char *word, char **list);
static bool mgr_secret_named(const char *list, ims_str_t name);
static int mgr_secret_write(const char *dir, const char *role, char *err,
    size_t errlen);


static const struct {
    const char  *name;
    unsigned     role;
} mgr_roles[] = {
    { "wwsf", MGR_ROLE_WWSF },
    { "edge", MGR_ROLE_EDGE },
    { NULL, 0 }
};


int
mgr_secrets_load(mgr_secret_t **list, const char *path, uid_t owner,
    char *err, size_t errlen)
{
    int             rc;
    DIR            *dir;
    char            file[4096];
    size_t          n;
    struct dirent  *de;

    dir = opendir(path);

    if (dir == NULL) {

        if (errno == ENOTDIR) {
            return mgr_secrets_file(list, path, owner, err, errlen);
        }

        snprintf(err, errlen, "cannot read the secrets in \"%s\": %s", path,
                 strerror(errno));
        return -1;
    }

    rc = 0;

    while (rc == 0 && (de = readdir(dir)) != NULL) {

        n = strlen(de->d_name);

        if (n <= 7 || strcmp(de->d_name + n - 7, ".secret") != 0) {
            continue;
        }

        snprintf(file, sizeof(file), "%s/%s", path, de->d_name);
        rc = mgr_secrets_file(list, file, owner, err, errlen);
    }

    closedir(dir);

    return rc;
}


static int
mgr_secrets_file(mgr_secret_t **list, const char *path, uid_t owner,
    char *err, size_t errlen)
{
    int            fd, rc;
    FILE          *f;
    char           line[MGR_SECRET_LINE];
    unsigned       no;
    const char    *why;
    struct stat    st;
    mgr_secret_t  *s;

    fd = open(path, O_RDONLY|O_CLOEXEC|O_NOCTTY|O_NONBLOCK);

    if (fd == -1 || fstat(fd, &st) == -1) {
        snprintf(err, errlen, "cannot read \"%s\": %s", path, strerror(errno));

        if (fd != -1) {
            close(fd);
        }

        return -1;
    }

    why = NULL;

    if (!S_ISREG(st.st_mode)) {
        why = "is not a plain file";

    } else if (st.st_mode & 077) {
        why = "may be read by others than its owner: chmod 0600";

    } else if (st.st_uid != 0 && st.st_uid != owner) {
        why = "belongs neither to root nor to the daemon's user";
    }

    f = why ? NULL : fdopen(fd, "r");

    if (f == NULL) {
        snprintf(err, errlen, "\"%s\" %s", path, why ? why : strerror(errno));
        close(fd);
        return -1;
    }

    rc = 0;

    for (no = 1; rc == 0 && fgets(line, sizeof(line), f) != NULL; no++) {

        s = mgr_secret_line(line, &why);

        if (s != NULL) {
            s->next = *list;
            *list = s;

        } else if (why != NULL) {
            snprintf(err, errlen, "\"%s\" line %u: %s", path, no, why);
            rc = -1;
        }
    }

    explicit_bzero(line, sizeof(line));
    fclose(f);

    return rc;
}


/* NULL with *why NULL: nothing in this line */

static mgr_secret_t *
mgr_secret_line(char *line, const char **why)
{
    char          *save, *word[5];
    size_t         i, n;
    ims_str_t      text;
    mgr_secret_t  *s;

    *why = NULL;
    n = 0;

    if (strchr(line, '\n') == NULL && strlen(line) == MGR_SECRET_LINE - 1) {
        *why = "too long";
        return NULL;
    }

    for (word[0] = strtok_r(line, " \t\r\n", &save);
         word[n] != NULL && n < 4;
         word[n] = strtok_r(NULL, " \t\r\n", &save))
    {
        n++;
    }

    if (n == 0 || word[0][0] == '#') {
        return NULL;
    }

    if (n < 2 || word[n] != NULL) {
        *why = "not \"role secret [pools] [realms]\"";
        return NULL;
    }

    for (i = 0; mgr_roles[i].name != NULL; i++) {
        if (strcmp(mgr_roles[i].name, word[0]) == 0) {
            break;
        }
    }

    if (mgr_roles[i].name == NULL) {
        *why = "the role is neither wwsf nor edge";
        return NULL;
    }

    text = ims_str_z(word[1]);

    if (text.n < MGR_SECRET_MIN || text.n > MGR_SECRET_MAX) {
        *why = "the secret has less than 16 or more than 128 characters";
        return NULL;
    }

    s = calloc(1, sizeof(mgr_secret_t));

    if (s == NULL) {
        *why = "no memory";
        return NULL;
    }

    s->role = mgr_roles[i].role;
    ims_sha256_parts(&text, 1, s->hash, sizeof(s->hash));

    if ((n > 2 && !mgr_secret_list(word[2], &s->pools))
        || (n > 3 && !mgr_secret_list(word[3], &s->realms)))
    {
        *why = "no memory";
        mgr_secrets_free(s);
        return NULL;
    }

    return s;
}


static bool
mgr_secret_list(char *word, char **list)
{
    if (strcmp(word, "*") == 0) {
        *list = NULL;
        return true;
    }

    *list = strdup(word);

    return *list != NULL;
}


void
mgr_secrets_free(mgr_secret_t *list)
{
    mgr_secret_t  *next;

    for ( ; list != NULL; list = next) {
        next = list->next;

        free(list->pools);
        free(list->realms);
        explicit_bzero(list, sizeof(mgr_secret_t));
        free(list);
    }
}


const mgr_secret_t *
mgr_secrets_find(const mgr_secret_t *list, ims_str_t word)
{
    uint8_t              hash[MGR_SECRET_HASH];
    const mgr_secret_t  *s, *found;

    if (word.n > MGR_SECRET_MAX) {
        return NULL;
    }

    found = NULL;
    ims_sha256_parts(&word, 1, hash, sizeof(hash));

    for (s = list; s != NULL; s = s->next) {
        if (ims_equal_ct(hash, s->hash, sizeof(hash))) {
            found = s;
        }
    }

    return found;
}


const mgr_secret_t *
mgr_secrets_same(const mgr_secret_t *list, const mgr_secret_t *secret)
{
    const mgr_secret_t  *s;

    for (s = list; s != NULL; s = s->next) {
        if (ims_equal_ct(secret->hash, s->hash, sizeof(s->hash))) {
            return s;
        }
    }

    return NULL;
}


const char *
mgr_role_text(unsigned role)
{
    size_t  i;

    for (i = 0; mgr_roles[i].name != NULL; i++) {
        if (mgr_roles[i].role == role) {
            return mgr_roles[i].name;
        }
    }

    return role == MGR_ROLE_ADMIN ? "admin" : "none";
}


bool
mgr_secret_allows(const mgr_secret_t *s, ims_str_t pool, ims_str_t realm)
{
    return (pool.p == NULL || mgr_secret_named(s->pools, pool))
           && (realm.p == NULL || mgr_secret_named(s->realms, realm));
}


static bool
mgr_secret_named(const char *list, ims_str_t name)
{
    size_t       n;
    const char  *p;

    if (list == NULL) {
        return true;
    }

    for (p = list; ; p += n + 1) {
        n = strcspn(p, ",");

        if (n != 0 && ims_str_eq(ims_str_set(p, n), name)) {
            return true;
        }

        if (p[n] == '\0') {
            return false;
        }
    }
}


int
mgr_secrets_make(const char *dir, char *err, size_t errlen)
{
    size_t  i;

    if (mkdir(dir, 0700) == -1 && errno != EEXIST) {
        snprintf(err, errlen, "cannot make \"%s\": %s", dir, strerror(errno));
        return -1;
    }

    for (i = 0; mgr_roles[i].name != NULL; i++) {
        if (mgr_secret_write(dir, mgr_roles[i].name, err, errlen) != 0) {
            return -1;
        }
    }

    return 0;
}


/*
 * Written beside and renamed: a crash leaves no half secret.  The daemon's
 * lock on its directory is held, so that nobody else is writing.
 */

static int
mgr_secret_write(const char *dir, const char *role, char *err, size_t errlen)
{
    int      fd, len;
    char     path[4096], tmp[4096], line[256];
    uint8_t  raw[32], text[ims_b64url_len(32)];

    len = snprintf(path, sizeof(path), "%s/%s.secret", dir, role);

    if (len >= (int) sizeof(path) - 8) {
        snprintf(err, errlen, "the path of the secrets is too long");
        return -1;
    }

    if (access(path, F_OK) == 0) {
        return 0;
    }

    if (getrandom(raw, sizeof(raw), 0) != (ssize_t) sizeof(raw)) {
        snprintf(err, errlen, "getrandom() failed: %s", strerror(errno));
        return -1;
    }

    ims_b64url_encode(text, raw, sizeof(raw));

    len = snprintf(line, sizeof(line),
                   "# role secret [pools] [realms]\n%s %.*s\n", role,
                   (int) sizeof(text), (char *) text);

    memcpy(tmp, path, sizeof(tmp));
    strcat(tmp, ".tmp");

    fd = open(tmp, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC|O_NOFOLLOW, 0600);

    if (fd == -1 || write(fd, line, (size_t) len) != len || fsync(fd) == -1
        || rename(tmp, path) == -1)
    {
        snprintf(err, errlen, "cannot write \"%s\": %s", path,
                 strerror(errno));
        len = -1;
    }

    if (fd != -1) {
        close(fd);
    }

    explicit_bzero(raw, sizeof(raw));
    explicit_bzero(text, sizeof(text));
    explicit_bzero(line, sizeof(line));

    return len == -1 ? -1 : 0;
}
