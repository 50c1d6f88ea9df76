#!/usr/bin/perl

# Tests for how long a registration lasts with Kamailio as the registrar, which
# raises what is shorter than its min_expires of 60: no binding outlives the
# lease that it was made on.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('kamailio')->plan(22);

my %pools = (short => 10, brief => 64);

ims_keys($t);
ims_pool($t);

for my $pool (sort keys %pools) {
    ims_poolctl($t, 'pool', 'create', $pool, 'ims.example', '--ttl',
                $pools{$pool});
    ims_poolctl($t, 'import', $pool, '--range',
                "sip:$pool-[01-09]\@ims.example");
}

ims_core($t);

my $dir = $t->testdir();

$t->write_file_expand('nginx.conf', ims_conf($t, grace => '300s',
    issuers => <<"    END",
        ims_issuer site {
            iss     https://localhost;
            aud     ims.example;
            alg     ES256;
            key     k1 $dir/site.pub.pem $dir/site.key.pem;
            pool    web short brief;
            origin  http://localhost;
        }
    END
    locations => join '', map { <<"    END" } sort keys %pools));
        location = /ims/$_ {
            ims_identity       $_ issuer=site;
            ims_identity_user  \$remote_user;
        }
    END
$t->run();

###############################################################################

my ($c, $answer);

# a lease with 10 s left: whatever is asked for, Kamailio would make it 60

for (
    ['a lease with 10 s left', expires => 600],
    ['it asks for less', expires => 5],
    ['it says nothing', expires => '', contact => '<sip:a@b.invalid>'],
) {
    my ($name, %over) = @$_;

    $c = client('short');
    $c->send($c->{ua}->register(%over));
    $answer = $c->answer();
    is($answer->{status}, 401, "$name: 401");
    like(sip_header($answer, 'WWW-Authenticate'), qr/error="invalid_token"/,
        'so that it renews');
    is(bound($c), undef, 'nothing is bound');
}

# without Expires: for no longer than the lease

$c = client('web');
is(bound($c), undef, 'not bound before');
is(told($c, expires => '', contact => '<sip:a@b.invalid>'), 1, 'no Expires');
cmp_ok(bound($c) // 'none', '<=', left($c), 'bound within the lease');

# and with one that is no number

for (
    ['expires=abc', expires => '', contact => '<sip:a@b.invalid>;expires=abc'],
    ['Expires: abc', expires => 'abc', contact => '<sip:a@b.invalid>'],
) {
    my ($name, %over) = @$_;

    $c = client('web');
    $c->send($c->{ua}->register(%over));
    is($c->answer()->{status}, 400, $name);
    is(bound($c), undef, 'nothing is bound');
}

# raised to what the core grants at least: the client is told so

$c = client('web');
is(told($c, expires => 20), 1, 'less than 60 of a long lease');
my $bound = bound($c) // 0;
ok($bound > 50 && $bound <= 60, 'Kamailio makes it 60');
is(ims_status()->{counters}{register_granted_more}, 0, 'no fault of the core');

# a lease that has little more than 60 s left, and then less

$c = client('brief');
is(told($c, expires => 600), 1, '64 s left');
cmp_ok(bound($c) // 'none', '<=', left($c), 'bound within the lease');
ok(ims_wait(30, sub {
    $c->send($c->{ua}->register());
    ($c->answer() // { status => 0 })->{status} == 401
}), 'some seconds later: 401');

###############################################################################

sub client {
    my ($pool) = @_;

    return ImsClient->new(
        identity => $pool eq 'web' ? '/ims/identity' : "/ims/$pool");
}


# registers; true if it is told no more than its lease has

sub told {
    my ($c, %over) = @_;

    $c->send($c->{ua}->register(%over));

    my $answer = $c->answer();
    my ($told) = sip_header($answer, 'Contact') =~ /;expires=(\d+)/
        or return "$answer->{status}";

    return $told <= left($c) ? 1 : "told $told";
}


# s that are left of the lease, and of what the core has

sub left {
    my ($c) = @_;

    my (undef, $json) = ims_poolctl($t, 'show', $c->{id}{lease}, '--json');

    return ($json->{end} - $json->{now}) / 1000;
}


sub bound {
    my ($c) = @_;

    my ($user) = $c->{id}{impu} =~ /^sip:(.*)/;
    my ($b) = map { @$_ } (ims_core_bindings($t)->{$user} // []);

    return $b ? $b->{expires} : undef;
}

###############################################################################
