#!/usr/bin/perl

# Tests for several browsers of one user: they share a lease and nothing else.
# A fifth one takes the place of the first, a sign-out ends one flow, and what
# comes late ends nothing.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(31);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    lease_check => '200ms', grace => '300s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

# two devices: one identity, one lease, a session and a flow each

my @d = map { device('alice') } 1 .. 2;

is($d[1]{id}{impu}, $d[0]{id}{impu}, 'the same identity');
is($d[1]{id}{lease}, $d[0]{id}{lease}, 'on the same lease');
isnt($d[1]{cookie}, $d[0]{cookie}, 'another session');
isnt($d[1]{path}, $d[0]{path}, 'another flow');
is(alive(), 2, 'both are served');

# a third, a fourth, and a fifth

push @d, map { device('alice') } 3 .. 4;
is(alive(), 4, 'four are served');

push @d, device('alice');
is($d[4]{id}{lease}, $d[0]{id}{lease}, 'the fifth is on that lease');
is(($d[0]{ws}->closed(5))[0], 1008, 'the first one is closed');
is(taken_back(), contact($d[0]), 'and its Contact taken back');
is(alive(), 4, 'the others are served');

# its token is worth nothing, though nothing of it has expired

$d[0]->connect();
$d[0]->send($d[0]{ua}->register());
is($d[0]->answer()->{status}, 403, 'the token of the first: refused');
is(($d[0]{ws}->closed(5))[0], 1008, 'and closed');
ok($core->silent(0.5), 'nothing reaches the core');

# and its sign-out comes too late

is(release($d[0])->{status}, 409, 'late DELETE of the first: 409');
is(alive(), 4, 'nobody minds');

# the second one signs out

is(release($d[1])->{status}, 204, 'the second signs out');
is(($d[1]{ws}->closed(5))[0], 1008, 'its flow is closed');
is(taken_back(), contact($d[1]), 'and its Contact taken back');
is(alive(), 3, 'the others are served');
is(release($d[1])->{status}, 409, 'once');

# another user with that cookie, or that lease

is(release($d[2], user => 'mallory')->{status}, 409, 'of another user: 409');
is(release($d[2], lease => device('bob')->{id}{lease})->{status}, 409,
    "of another's lease: 409");
is(alive(), 3, 'nobody minds');

# the last ones sign out; the user returns, and an old DELETE arrives

is(release($_)->{status}, 204, 'signed out') for @d[2 .. 4];
is(alive(), 0, 'all flows are closed');
taken_back() for 2 .. 4;

my $new = device('alice');
is($new->{id}{impu}, $d[0]{id}{impu}, 'returned to the identity');
isnt($new->{id}{lease}, $d[0]{id}{lease}, 'on another lease');
is(release($d[4])->{status}, 409, 'late DELETE of the old lease: 409');
ok($new->alive(), 'the new flow is served');

###############################################################################

sub device {
    my ($user) = @_;

    my $c = ImsClient->new(user => $user);
    my ($m) = $c->registered($core);
    $c->{path} = sip_header($m, 'Path');

    return $c;
}


sub alive {
    my @lost = grep { ($_->{ws}->closed(0.3))[0] } @d;

    return scalar grep { my $c = $_; !grep { $_ == $c } @lost and $c->alive() }
        @d;
}


sub contact {
    my ($c) = @_;

    return '<' . $c->{ua}->contact() . '>;expires=0';
}


sub taken_back {
    my ($m, $link) = $core->request(5) or return 'nothing';

    $core->reply($link, $m, 200, 'OK', contact => '');

    return sip_header($m, 'Contact');
}


sub release {
    my ($c, %o) = @_;

    return ims_identity(method => 'DELETE', user => $o{user} // $c->{user},
        cookie => $c->{cookie}, query => 'lease='
        . ($o{lease} // $c->{id}{lease}));
}

###############################################################################
