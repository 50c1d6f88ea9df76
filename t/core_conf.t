#!/usr/bin/perl

# Tests for ims_listen, ims_core_allow and ims_pass: what nginx -t refuses,
# and what it says.

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

# a line of the configuration, what it becomes, what is said ('' : good)

my $listen = 'ims_listen      127.0.0.1:8070 advertise=127.0.0.1:8070;';
my $allow = 'ims_core_allow  127.0.0.1;';
my $server = 'server 127.0.0.1:8060;';

my @tests = (
    [$listen, $listen, '', 'as in the tests'],
    [$listen, 'ims_listen 127.0.0.1:8070;', '', 'advertise by default'],
    [$listen, 'ims_listen 127.0.0.1:8070 advertise=edge-1.ims.example:5060;',
        '', 'advertised by name'],
    [$listen, 'ims_listen 127.0.0.1:8070 advertise=[2001:db8::1]:5060;',
        '', 'advertised by IPv6 address'],
    [$listen, 'ims_listen 8070 advertise=192.0.2.1:5060;', '',
        'wildcard, advertised'],
    [$listen, "$listen ims_listen 127.0.0.2:8070;", '', 'two of them'],

    [$listen, 'ims_listen 8070;', qr/needs "advertise=HOST:PORT"/,
        'wildcard'],
    [$listen, 'ims_listen [::]:8070;', qr/needs "advertise=HOST:PORT"/,
        'wildcard, IPv6'],
    [$listen, "$listen $listen", qr/duplicate "ims_listen"/, 'twice'],
    [$listen, 'ims_listen 127.0.0.1:8070 tls;',
        qr/"tls" needs "ims_listen_certificate"/, 'tls'],
    [$listen, "$listen ims_listen 127.0.0.1:8071 udp;", '', 'udp'],
    [$listen, 'ims_listen 127.0.0.1:8071 udp;',
        qr/"udp" alone: large requests go by TCP/, 'udp alone'],
    [$listen, 'ims_listen 127.0.0.1:8070 sctp;',
        qr/invalid parameter "sctp"/, 'unknown parameter'],
    [$listen, 'ims_listen unix:/run/x.sock;', qr/give an IP address/,
        'unix socket'],
    [$listen, 'ims_listen 127.0.0.1:99999;', qr/invalid port/, 'bad port'],
    [$listen, 'ims_listen 127.0.0.1:8070 advertise=a:1 advertise=b:2;',
        qr/duplicate "advertise"/, 'advertised twice'],
    (map { [$listen, "ims_listen 127.0.0.1:8070 advertise=$_;",
            qr/is not "advertise=HOST:PORT"/, "advertise \"$_\""] }
        '""', 'host', 'host:', ':5060', 'host:0', 'host:65536', 'host:5060x',
        'host:005060', 'ho_st:5060', 'a..b:5060', '-a:5060', 'a-:5060',
        'a.:5060', '.a:5060', '[::1:5060', '[zz]:5060', '"a b:5060"',
        '"a;lr:5060"', ('x' x 65) . ':5060'),

    [$listen, '', qr/"ims_pass" needs "ims_listen"/, 'no ims_listen'],

    [$allow, '', qr/"ims_listen" needs "ims_core_allow"/,
        'no ims_core_allow'],
    [$allow, 'ims_core_allow all;', '', 'all'],
    [$allow, 'ims_core_allow 127.0.0.0/8 2001:db8::/32; '
        . 'ims_core_allow 10.0.0.1;', '', 'several'],
    [$allow, 'ims_core_allow 127.0.0.1/8;', '', 'low bits'],
    [$allow, 'ims_core_allow somewhere;', qr/invalid address "somewhere"/,
        'not an address'],
    [$allow, 'ims_core_allow 10.0.0.0/33;', qr/invalid address/,
        'bad prefix'],

    (map { [$server, "$_->[0]; $server", $_->[1], "group with $_->[0]"] }
        ['zone z 64k', ''],
        map { [$_, qr/plain round robin only: upstream "core"/] }
            'least_conn', 'ip_hash', 'hash $remote_addr', 'random'),
    [$server, 'server 127.0.0.1:8060 weight=3 max_fails=2 fail_timeout=1s; '
        . 'server 127.0.0.1:8061 backup; server 127.0.0.1:8062 down;', '',
        'all that a server may have'],
    ['ims_pass           core;', 'ims_pass 127.0.0.1:8060;', '',
        'no group'],
    ['ims_pass           core;', 'ims_pass 127.0.0.1;', '',
        'no group, no port'],
    ['ims_pass           core;', 'ims_pass core:5060;',
        qr/may not have port/, 'group with a port'],
    ['ims_pass           core;', 'ims_pass no.such.host.invalid;',
        qr/host not found/, 'unknown host'],
);

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->plan(2 * @tests + 2);

ims_keys($t);
$t->write_file('error.log', '');

###############################################################################

my $conf = ims_conf($t);

for my $test (@tests) {
    my ($from, $to, $said, $name) = @$test;

    my $text = $conf;
    die "$from is not in the configuration\n"
        unless $text =~ s/^\s*\Q$from\E$/$to/m;

    my ($good, $out) = ims_conf_error($t, $text);

    if ($said eq '') {
        ok($good, "$name: taken") or diag($out);
        unlike($out, qr/\[(emerg|alert|crit)\]/, "$name: in peace");

    } else {
        ok(!$good, "$name: refused");
        like($out, $said, "$name: said why");
    }
}

my (undef, $out) = ims_conf_error($t,
    $conf =~ s/\Q$server\E/server 127.0.0.1;/r);
like($out, qr/\[warn\].*server "127.0.0.1" of upstream "core" has port 80/,
    'port 80 warned of');

(undef, $out) = ims_conf_error($t,
    $conf =~ s/\Q$allow\E/ims_core_allow 127.0.0.1\/8;/r);
like($out, qr/low address bits of 127.0.0.1\/8 are meaningless/,
    'low bits warned of');

###############################################################################
