#!/usr/bin/perl

# Tests for groups of core nodes: weight, backup, down, max_fails and
# fail_timeout, with a shared zone and without.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http upstream_zone/)
    ->has_daemon('openssl')->plan(15);

ims_keys($t);
ims_pool($t, size => 200);

# one location a group; dead ones are where nobody listens

my %groups = (
    weight => 'server 127.0.0.1:8061 weight=3; server 127.0.0.1:8062;',
    backup => 'server 127.0.0.1:8065 max_fails=1 fail_timeout=60s;
               server 127.0.0.1:8061 down; server 127.0.0.1:8062 backup;',
    fails => 'server 127.0.0.1:8065 max_fails=2 fail_timeout=60s;
              server 127.0.0.1:8061;',
    zone => 'zone z 64k; server 127.0.0.1:8066 max_fails=1 fail_timeout=3s;
             server 127.0.0.1:8061;',
);

my ($upstreams, $locations) = ('', '');
for my $name (sort keys %groups) {
    $upstreams .= "upstream $name { $groups{$name} }\n";
    $locations .= "location = /ws/$name { ims_pass $name; }\n";
}

$locations .= "location = /ws/plain { ims_pass 127.0.0.1:8062; }\n";

$t->write_file_expand('nginx.conf', ims_conf($t, http => $upstreams,
    locations => $locations));
$t->run();

###############################################################################

my $users = 0;
my %core = map { $_ => ImsCore->new(port($_)) } 8061, 8062;

# weight

my %got;
$got{register('weight')}++ for 1 .. 12;
is($got{8061}, 9, 'weight 3');
is($got{8062}, 3, 'weight 1');

# no group

is(register('plain'), 8062, 'a host and port');

# a second REGISTER on a flow does not choose again

my ($ws, $ua) = client('weight');
my @ways = map { exchange($ws, $ua) } 1 .. 6;
is(join(',', @ways), join(',', ($ways[0]) x 6),
    'the flow stays with its peer');

# backup: the first try finds that nobody is there, the next ones know

my ($way, $took) = timed('backup');
is($way, 8062, 'backup takes over');
cmp_ok($took, '>', 1.5, 'after a while');

my @took = map { ($way, $took) = timed('backup'); $took } 1 .. 3;
is($way, 8062, 'backup again');
cmp_ok((sort { $a <=> $b } @took)[0], '<', 1, 'at once');

# max_fails=2: two REGISTERs wait, then none does

my @waits;
for (1 .. 10) {
    ($way, $took) = timed('fails');
    push @waits, $took > 1.5 ? 1 : 0;
    last if $way != 8061;
}
is($way, 8061, 'the living one takes all');
is(join('', @waits) =~ tr/1//, 2, 'two waited');
is(join('', @waits[-5 .. -1]), '00000', 'the others did not');

# a zone, and the dead one's return after fail_timeout

($way) = timed('zone') for 1 .. 3;
is($way, 8061, 'zone: the living one');

$core{8066} = ImsCore->new(port(8066));
sleep 4.2;

%got = ();
$got{register('zone')}++ for 1 .. 6;
cmp_ok($got{8066} // 0, '>=', 2, 'back after fail_timeout');
cmp_ok($got{8061} // 0, '>=', 2, 'and not alone');

# none up

delete $core{8062};
($ws, $ua) = client('plain');
$ws->send($ua->register());
my $m = sip_parse($ws->recv(5) // '');
is($m->{status}, 503, 'none up');

###############################################################################

sub client {
    my ($group) = @_;

    my $name = 'user' . ++$users;
    my $id = ims_identity(user => $name)->{json} or die "no identity\n";

    my $c = ImsWs->new(port => port(8080), origin => 'http://localhost',
        uri => "/ws/$group");
    my $sip = ImsSip->new(aor => $id->{impu}, token => $id->{token});

    return ($c, $sip);
}


# one REGISTER: which core took it, after it was answered; 0: none

sub exchange {
    my ($c, $sip) = @_;

    $c->send($sip->register());

    my $end = time() + 5;

    while (time() < $end) {
        for my $port (keys %core) {
            my ($m, $link) = $core{$port}->request(0.01) or next;
            $core{$port}->reply($link, $m, 200, 'OK');
            my $answer = sip_parse($c->recv(5) // '');
            return $answer && $answer->{status} == 200 ? $port : 0;
        }
    }

    return 0;
}


sub register {
    my ($group) = @_;

    my ($c, $sip) = client($group);
    my $port = exchange($c, $sip);
    $c->drop();

    return $port;
}


sub timed {
    my ($group) = @_;

    my $start = time();
    my $port = register($group);

    return ($port, time() - $start);
}

###############################################################################
