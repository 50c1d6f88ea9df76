#!/usr/bin/perl

# Tests for the directives other than ims_issuer: each error that "nginx -t"
# must find, and what it says.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

ims_keys($t);

my $d = $t->testdir();

$t->write_file('w.secret', 'wwsf ' . 'w' x 32 . "\n");
$t->write_file('e.secret', 'edge ' . 'e' x 32 . "\n");
$t->write_file('short.secret', "wwsf short\n");
$t->write_file('role.secret', "edge " . 'x' x 32 . "\n");
$t->write_file('alone.secret', "# comment\n\n" . 'x' x 32 . "\n");
$t->write_file('both.secret', "# comment\nedge " . 'x' x 32 . " *\n"
    . "wwsf " . 'y' x 32 . " web *\n");
$t->write_file('empty.secret', '');

my %main = (
    ims_state_dir => "$d/state",
    ims_pool => "dir=$d/pool socket=$d/pool.sock "
        . "wwsf_secret=$d/w.secret edge_secret=$d/e.secret",
    ims_listen => '127.0.0.1:%%PORT_8070%% advertise=127.0.0.1:5070',
    ims_core_allow => '127.0.0.1',
);

my $issuer = "ims_issuer site { iss i; aud a; alg ES256;"
    . " key k1 $d/site.pub.pem $d/site.key.pem;"
    . " pool web; origin https://o.example; }";
my $second = "ims_issuer second { iss j; aud a; alg ES256;"
    . " key k1 $d/site.pub.pem; pool web; origin https://o.example; }";

my $identity = 'ims_identity web;';
my $pass = 'ims_pass core;';

# name, changes to main (undef: left out), issuers, location, what is said

my @bad = (
    # the pool
    [ 'pool: unknown parameter', { ims_pool => 'dirr=x' }, $issuer, '',
        qr/"ims_pool": invalid parameter "dirr=x"/ ],
    [ 'pool: timeout', { ims_pool => 'timeout=soon' }, $issuer, '',
        qr/"ims_pool": invalid parameter "timeout=soon"/ ],
    [ 'pool: timeout 0', { ims_pool => 'timeout=0' }, $issuer, '',
        qr/"ims_pool": invalid parameter "timeout=0"/ ],
    [ 'pool: no such secret', { ims_pool => "wwsf_secret=$d/none" }, $issuer,
        '', qr/"ims_pool": open\(\) secret "\S+none" failed/ ],
    map({ [ "pool: $_ secret", { ims_pool => "wwsf_secret=$d/$_.secret" },
        $issuer, '', qr/"\S+$_.secret" has no line "wwsf SECRET" with/ ] }
        qw/ short role empty /),
    [ 'pool: long socket', { ims_pool => 'socket=' . 'x' x 120 }, $issuer, '',
        qr/socket path "\S+" is too long/ ],

    # numbers
    [ 'flows', { ims_flows => 'many' }, $issuer, '',
        qr/invalid number/ ],
    [ 'few flows', { ims_flows => 1 }, $issuer, '',
        qr/must be between 64 and/ ],
    [ 'node', { ims_node => 256 }, $issuer, '', qr/must be between 1 and 255/ ],
    [ 'large message', { ims_max_message => '65537' }, $issuer, '',
        qr/"ims_max_message" is 65537, it must be from 4096 to 65536/ ],
    [ 'drain after', { ims_drain_after => '0' }, $issuer, '',
        qr/"ims_drain_after" directive invalid value/ ],
    [ 'drain after, no time', { ims_drain_after => 'never' }, $issuer, '',
        qr/"ims_drain_after" directive invalid value/ ],
    [ 'lease check', { ims_lease_check => '9ms' }, $issuer, '',
        qr/"ims_lease_check" must be at least 10ms/ ],
    [ 'state dir twice', { ims_state_dir => "$d/a; ims_state_dir $d/b" },
        $issuer, '', qr/"ims_state_dir" directive is duplicate/ ],
    [ 'long state dir', { ims_state_dir => '/' . 'x' x 81 }, $issuer, '',
        qr/is longer than 80 bytes/ ],

    # the core
    [ 'listen without allow', { ims_core_allow => undef }, $issuer, '',
        qr/"ims_listen" needs "ims_core_allow"/ ],
    [ 'allow nonsense', { ims_core_allow => 'core' }, $issuer, '',
        qr/"core" in "ims_core_allow"/ ],

    # ims_pass
    [ 'pass without issuer', {}, '', $pass, qr/need an "ims_issuer" block/ ],
    [ 'pass without state', { ims_state_dir => undef }, $issuer, $pass,
        qr/"ims_pass" needs "ims_state_dir"/ ],
    [ 'pass without pool', { ims_pool => undef }, $issuer, $pass,
        qr/"ims_pass" needs "ims_pool" with "dir="/ ],
    [ 'pass without listen', { ims_listen => undef }, $issuer, $pass,
        qr/"ims_pass" needs "ims_listen"/ ],
    [ 'pass, unknown issuer', {}, $issuer, "$pass ims_accept_issuer none;",
        qr/unknown issuer "none"/ ],
    [ 'accept twice', {}, $issuer,
        "$pass ims_accept_issuer site; ims_accept_issuer site;",
        qr/"ims_accept_issuer" directive is duplicate/ ],
    [ 'token mode', {}, $issuer, "$pass ims_token maybe;",
        qr/invalid value "maybe"/ ],

    # ims_identity
    [ 'identity without issuer', {}, '', $identity,
        qr/"ims_identity" directive needs an "ims_issuer" block before it/ ],
    [ 'identity, several issuers', {}, "$issuer $second", $identity,
        qr/"ims_identity" directive needs "issuer=": there are several/ ],
    [ 'identity, unknown issuer', {}, $issuer,
        'ims_identity web issuer=none;', qr/unknown issuer "none"/ ],
    [ 'identity, parameter', {}, $issuer, 'ims_identity web realm=x;',
        qr/invalid parameter "realm=x"/ ],
    [ 'identity, empty pool', {}, $issuer, 'ims_identity "";',
        qr/"ims_identity" directive has an empty pool name/ ],
    [ 'identity twice', {}, $issuer, "$identity $identity",
        qr/"ims_identity" directive is duplicate/ ],
    [ 'identity and pass', {}, $issuer, "$pass $identity",
        qr/"ims_identity" directive and "ims_pass" or "ims_status"/ ],
    [ 'identity and status', {}, $issuer, "ims_status; $identity",
        qr/"ims_identity" directive and "ims_pass" or "ims_status"/ ],
    [ 'identity without pool', { ims_pool => undef }, $issuer, $identity,
        qr/"ims_identity" needs "ims_pool" with "socket=" and "wwsf_sec/ ],
    [ 'identity without key', {}, $second, $identity,
        qr/issuer "second" has no key to sign with/ ],
    [ 'identity, pool of others', {}, $issuer, 'ims_identity gold;',
        qr/issuer "site" may not speak for pool "gold"/ ],
    [ 'user twice', {}, $issuer,
        "$identity ims_identity_user \$a; ims_identity_user \$a;",
        qr/"ims_identity_user" directive is duplicate/ ],
    [ 'user fixed', {}, $issuer, "$identity ims_identity_user alice;",
        qr/"ims_identity_user" "alice" has no variable/ ],
    [ 'user unknown', {}, $issuer,
        "$identity ims_identity_user \$no_such_variable;",
        qr/unknown "no_such_variable" variable/ ],
    [ 'anonymous', {}, $issuer, "$identity ims_identity_anonymous maybe;",
        qr/invalid value "maybe"/ ],

    # ims_status
    [ 'status twice', {}, $issuer, 'ims_status; ims_status;',
        qr/"ims_status" directive is duplicate/ ],
    [ 'status and pass', {}, $issuer, "$pass ims_status;",
        qr/"ims_status" directive and "ims_pass" or "ims_identity"/ ],
    [ 'status, argument', {}, $issuer, 'ims_status on;',
        qr/invalid number of arguments in "ims_status"/ ],
);

my @good = (
    [ 'all', {}, $issuer, $pass ],
    [ 'a site alone', { map { $_ => undef } qw/ ims_state_dir ims_listen
        ims_core_allow / }, $issuer, $identity ],
    [ 'secret alone in its file', { ims_pool => "socket=$d/s "
        . "wwsf_secret=$d/alone.secret", ims_listen => undef }, $issuer,
        $identity ],
    [ 'secrets of all roles', { ims_pool => "socket=$d/s "
        . "wwsf_secret=$d/both.secret", ims_listen => undef }, $issuer,
        $identity ],
    [ 'one issuer of two', {}, "$issuer $second",
        'ims_identity web issuer=site;' ],
    [ 'user off', {}, $issuer, "$identity ims_identity_user off;" ],
);

$t->plan(@bad + @good);
$t->write_file_expand('nginx.conf', "daemon off; events {} http {}\n");
$t->run();

###############################################################################

for (@bad) {
    my ($name, $change, $issuers, $location, $says) = @$_;
    my ($good, $out) = said($t, $change, $issuers, $location);

    ok(!$good && $out =~ /\[emerg\].*$says/, $name) or diag($out);
}

for (@good) {
    my ($name, $change, $issuers, $location) = @$_;
    my ($good, $out) = said($t, $change, $issuers, $location);

    ok($good, $name) or diag($out);
}

###############################################################################

sub said {
    my ($t, $change, $issuers, $location) = @_;

    my %m = (%main, %$change);
    my $lines = join "\n", map { "$_ $m{$_};" }
        grep { defined $m{$_} } sort keys %m;

    my $module = ims_module();
    my $globals = $ENV{TEST_NGINX_GLOBALS} // '';

    return ims_conf_error($t, <<"    END");
        $globals
        load_module $module;
        events { }
        http {
            %%TEST_GLOBALS_HTTP%%
            $lines
            $issuers
            upstream core { server 127.0.0.1:5060; }
            server {
                listen 127.0.0.1:8080;
                location / { $location }
            }
        }
    END
}

###############################################################################
